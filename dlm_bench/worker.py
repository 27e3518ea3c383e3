"""The worker's entry point, under one name in all revisions that `dlm-bench ab` compares."""

from dlm_bench.sweep.worker.server import main

if __name__ == "__main__":
    main()
