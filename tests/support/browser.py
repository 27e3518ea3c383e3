"""A page in headless Chromium, driven by the DevTools protocol over two pipes: what it logs, what
it asks the network for, and what JavaScript says of it."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 60  # seconds for an answer: a busy machine starts a browser slowly


class Page:
    """An open page: `with Page(path) as page`. `errors` are console errors, uncaught exceptions
    and what Chromium itself logs as an error; `requests` the URLs asked for, the page's own left
    out, and inline `data:` too."""

    def __init__(self, path: Path, width: int = 1280, height: int = 900) -> None:
        self._url, self._size = path.resolve().as_uri(), (width, height)
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._count, self._session, self._rest = 0, "", b""

    def __enter__(self) -> Self:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        ours, theirs = os.pipe(), os.pipe()  # what it reads of us, what it writes to us
        # Chromium has the protocol on its descriptors 3 and 4. No sandbox: tests may run as root.
        command = (
            f"exec {CHROMIUM} --headless=new --no-sandbox --disable-gpu --remote-debugging-pipe "
            f"--disable-dev-shm-usage --no-first-run --user-data-dir={self._profile.name} "
            f"about:blank 3<&{ours[0]} 4>&{theirs[1]}"
        )
        self._process = subprocess.Popen(
            ["bash", "-c", command], pass_fds=(ours[0], theirs[1]), stderr=subprocess.DEVNULL
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._out, self._in = ours[1], theirs[0]
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _open(self) -> None:
        """Attach to a new page, listen, and load the file."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(*self._size)
        self.call("Page.navigate", url=self._url)
        self.wait_until("document.readyState === 'complete'")

    def __exit__(self, *_: object) -> None:
        os.close(self._out)  # which ends Chromium
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        self._profile.cleanup()

    def resize(self, width: int, height: int) -> None:
        """Show the page in a window of another size."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def run(self, code: str) -> Any:
        """The value of a JavaScript expression in the page, waited for if it is a promise; raises
        if it throws."""
        how = {"returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", expression=code, **how)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_until(self, condition: str) -> None:
        """Wait for a JavaScript condition; fails with what the page logged."""
        end = time.monotonic() + PATIENCE
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, f"{condition} never came true: {self.errors}"
            time.sleep(0.05)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write a PNG of the whole page, or of the window."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; events on the way are kept."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._count:
            self._keep(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], PATIENCE)
            part = os.read(self._in, 1 << 16) if ready else b""
            assert part, "Chromium does not answer"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _keep(self, event: dict[str, Any]) -> None:
        """Note an error or a request to the network."""
        said = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            self.errors.append(str(said["exceptionDetails"]))
        elif event["method"] == "Runtime.consoleAPICalled" and said["type"] in ("error", "assert"):
            self.errors.append(str(said["args"]))
        elif event["method"] == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.errors.append(str(said["entry"]))
        elif event["method"] == "Network.requestWillBeSent":
            url = said["request"]["url"]
            if url != self._url and not url.startswith("data:"):
                self.requests.append(url)
