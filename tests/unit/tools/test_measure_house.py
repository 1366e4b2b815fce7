"""The library stays small."""

import pytest

from tools.measure_house import LIMITS, measure_house


@pytest.fixture(scope="module")
def size():
    return measure_house()


@pytest.mark.parametrize("what", LIMITS)
def test_the_library_stays_within_its_limits(size, what):
    assert size[what] <= LIMITS[what]
