"""Settings for all tests, before anything imports torch."""

import os

# OpenMP's threads spin while they wait; next to any other busy process on the same cores that
# makes a test some fifty times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
