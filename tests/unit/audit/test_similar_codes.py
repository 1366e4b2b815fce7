"""Tests of utils_cv.audit.duplicates against comparing all with all."""

import numpy as np
import pytest

from utils_cv.audit.duplicates import (
    compute_sign_codes,
    find_similar_codes,
    find_similar_features,
    pack_bits,
    sort_pairs,
)


def make_codes(n, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64)


def flip_bits(code, places):
    for place in places:
        code = code ^ np.uint64(1 << int(place))
    return code


def compare_all(codes, max_bits):
    bits = np.bitwise_count(codes[:, None] ^ codes[None, :])
    return {(int(a), int(b)) for a, b in np.argwhere(bits <= max_bits) if a < b}


def as_set(pairs):
    return {(int(a), int(b)) for a, b in sort_pairs(pairs)}


@pytest.mark.parametrize("n_bits", range(8))
def test_every_pair_that_differs_in_at_most_7_bits_is_found(n_bits):
    random = np.random.default_rng(n_bits)
    codes = make_codes(200)
    changed = np.array([flip_bits(code, random.choice(64, n_bits, replace=False)) for code in codes])
    found = as_set(find_similar_codes(np.concatenate([codes, changed]), np.concatenate([codes, changed]), max_bits=7))
    assert found == {(i, i + 200) for i in range(200)}


def test_pairs_are_those_of_comparing_all():
    codes = np.concatenate([make_codes(300), np.array([flip_bits(make_codes(1, 9)[0], [i]) for i in range(20)])])
    assert as_set(find_similar_codes(codes, codes, max_bits=6)) == compare_all(codes, 6)


def test_a_limit_of_bits_is_kept():
    codes = np.array([0, 0b1111, 0b11111], np.uint64)
    assert as_set(find_similar_codes(codes, codes, max_bits=4)) == {(0, 1), (1, 2)}


def test_an_image_is_never_its_own_pair_and_nothing_repeats():
    codes = np.repeat(make_codes(3), 4)
    pairs = find_similar_codes(codes, codes)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == len(pairs) == 3 * 4 * 3


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_codes_for_a_pair(n):
    assert find_similar_codes(make_codes(n), make_codes(n)).shape == (0, 2)


def test_thousands_of_equal_codes_give_few_pairs_each():
    codes = np.zeros(3000, np.uint64)
    pairs = find_similar_codes(codes, codes)
    assert np.bincount(pairs[:, 0], minlength=3000).max() <= 50
    assert len(np.unique(pairs[:, 0])) == 3000  # yet each has some


def test_sign_codes_count_the_angle():
    a = np.random.default_rng(0).normal(size=(400, 50))
    b = a + 0.3 * np.random.default_rng(1).normal(size=a.shape)
    codes = compute_sign_codes(np.concatenate([a, b]), n_codes=4)
    assert codes.shape == (4, 800)
    share = np.bitwise_count(codes[:, :400] ^ codes[:, 400:]).mean() / 64
    cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert abs(share - np.arccos(cosine).mean() / np.pi) < 0.01  # Charikar 2002


def test_similar_features_are_those_of_comparing_all():
    random = np.random.default_rng(0)
    a = random.normal(size=(300, 40))
    features = np.concatenate([a, a + 0.2 * random.normal(size=a.shape)])
    pairs, cosines = find_similar_features(features, min_cosine=0.95)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = {(int(i), int(j)) for i, j in np.argwhere(unit @ unit.T >= 0.95) if i < j}
    assert as_set(pairs) <= expected
    assert len(pairs) >= 0.98 * len(expected) > 200
    np.testing.assert_allclose(cosines, (unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(axis=1), atol=1e-5)


def test_pack_bits_puts_the_first_bit_highest():
    bits = np.zeros((2, 64), bool)
    bits[0, 63] = bits[1, 0] = True
    assert pack_bits(bits).tolist() == [1, 2**63]


def test_sort_pairs_drops_repeats():
    assert sort_pairs(np.array([[3, 1], [1, 3], [0, 2]])).tolist() == [[0, 2], [1, 3]]
