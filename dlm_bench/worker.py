"""The worker's entry point, under the same name in all revisions for `dlm-bench ab`."""

from dlm_bench.sweep.worker.server import main

if __name__ == "__main__":
    main()
