"""Command lines that several tests run."""

TINY_RUN = ["run", "diffutran", "full", "--size", "tiny", "--device", "cpu", "-L", "8"]
TINY_RUN += ["--repeats", "1", "--warmup", "0"]
