"""Tests of utils_cv.audit.similar_codes: the search misses nothing that it promises, at a bounded cost."""

import numpy as np
import pytest

from utils_cv.audit.similar_codes import find_similar_codes, make_index


def make_codes(n, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64)


def flip_bits(code, places):
    for place in places:
        code = code ^ np.uint64(1 << int(place))
    return code


def make_similar_codes(seed):
    """300 codes, and 300 that differ from one of them in 0 to 16 bits."""
    random, codes = np.random.default_rng(seed), make_codes(300)
    changed = [flip_bits(code, random.choice(64, i % 17, replace=False)) for i, code in enumerate(codes)]
    return np.concatenate([codes, np.array(changed)])


@pytest.mark.parametrize("seed", range(3))
def test_the_search_gives_what_comparing_all_gives_in_small_steps_too(seed, monkeypatch):
    codes = make_similar_codes(seed)
    bits = np.bitwise_count(codes[:, None] ^ codes[None, :])
    np.fill_diagonal(bits, 64)  # an image is never its own pair
    pairs = find_similar_codes(codes, make_index(codes))
    found = np.zeros(bits.shape, int)
    np.add.at(found, tuple(pairs.T), 1)
    assert found.max() == 1  # nothing repeats
    assert found[bits <= 7].all()  # all of the most similar
    assert not found[bits > 14].any()
    assert 0.4 < found[(bits > 7) & (bits <= 14)].mean() < 1  # of the others a part
    monkeypatch.setattr("utils_cv.audit.similar_codes._MAX_PAIRS_AT_ONCE", 50)
    np.testing.assert_array_equal(find_similar_codes(codes, make_index(codes)), pairs)


def test_thousands_of_equal_codes_give_few_pairs_each():
    codes = np.zeros(3000, np.uint64)
    pairs = find_similar_codes(codes, make_index(codes))
    counts = np.bincount(pairs[:, 0], minlength=3000)
    assert counts.max() <= 50 and counts.min() >= 1  # yet each has some
