"""What importing the package does: OpenMP is told to wait asleep, before torch loads it, unless the user said else."""

import os
import re
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({}, {"1000"}, id="a short loop"),
        pytest.param({"GOMP_SPINCOUNT": "77"}, {"77"}, id="the user's count stays"),
        pytest.param({"OMP_WAIT_POLICY": "passive"}, {"0"}, id="the user's policy stays"),
    ],
)
def test_openmp_spins_as_long_as_asked(given, expected):
    own = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", "import utils_cv.models.backbones"],
        env=own | given | {"OMP_DISPLAY_ENV": "verbose"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    # GNU's OpenMP, which torch and scikit-learn bring along on Linux, prints what it read; others print other names.
    assert set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)) == (expected if sys.platform == "linux" else set())
