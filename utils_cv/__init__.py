"""Small helpers for image classification in notebooks; import what you need, such as `utils_cv.evaluation.metrics`."""

import os

__version__ = "0.1.0"

# The one thing done at import, because torch's OpenMP reads it when torch is loaded: its threads wait for each other in
# a busy loop, which on a shared machine takes the processors from the thread that they wait for. A short loop, then
# sleep, costs some percent alone (benchmarks/README.md). What you set yourself stays.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "1000"
