"""`python -m dlm_bench`, the same as `dlm-bench`."""

import sys

from dlm_bench.cli import main

sys.exit(main())
