"""Training of float and integer models; torch is imported here alone."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # else threads that wait burn a loaded machine's time: 20 times slower
