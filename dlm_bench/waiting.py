"""The waiting of a CPU's threads for each other."""

from collections.abc import MutableMapping


def wait_passively(environment: MutableMapping[str, str]) -> None:
    """Have OpenMP's threads sleep while they wait, unless the environment says otherwise.

    Spinning threads hold the core against the thread they wait for as soon as another process wants
    a core: a decode takes some fifty times as long. Call this before torch is loaded.
    """
    if not environment.get("OMP_WAIT_POLICY"):
        environment["OMP_WAIT_POLICY"] = "passive"
