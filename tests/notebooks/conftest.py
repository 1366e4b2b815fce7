"""Fixtures of the notebook tests: a small learnable subset of the demo images, or a folder of real photographs."""

import functools
import shutil

import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.notebooks.running import run_in_process
from tests.notebooks.table import CASES

N_TRAIN, N_TEST = 10, 6  # images of each class: enough to learn something, few enough for seconds


@pytest.fixture(scope="session")
def small_sets(tmp_path_factory):
    """Gives a small copy of a demo set, made once."""
    return functools.cache(lambda name: str(make_small_set(name, tmp_path_factory.mktemp(name))))


@pytest.fixture(scope="session")
def fast_parameters(request, small_sets):
    """Gives the fast parameters of a notebook, on small copies of the demo sets or on what `--data-dir` names."""
    given = request.config.getoption("--data-dir")

    def make(name):
        folders = {parameter: small_sets(source) for parameter, source in CASES[name].sets.items()}
        return {**CASES[name].fast, **folders} | ({"DATA_DIR": given} if given else {})

    return make


@pytest.fixture(scope="session")
def base_results(fast_parameters):
    """Gives what a notebook records with its fast parameters, run once, and then backwards."""
    return functools.cache(lambda name: run_in_process(name, fast_parameters(name), again=True))


@pytest.fixture(scope="session")
def other_data_dir(tmp_path_factory):
    """Another folder for DATA_DIR, to see that it matters."""
    return str(make_small_set("fridge_objects", tmp_path_factory.mktemp("other set"), n_left_out=3))


def make_small_set(name, out_dir, *, n_left_out=0):
    """Copy some images of each class, split and kind of a demo set, with their labels."""
    in_dir = ROOT / "data" / name
    table = pd.read_csv(in_dir / "labels.csv", dtype=str)
    kinds = [column for column in ("shift", "kind") if column in table]
    kept = [
        rows.head((N_TRAIN if key[1] == "train" else N_TEST) // (1 + len(kinds))).iloc[n_left_out:]
        for key, rows in table.groupby(["label", "split", *kinds], sort=True)
    ]
    small = pd.concat(kept)
    for image in small["image"]:
        (out_dir / image).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(in_dir / image, out_dir / image)
    small.to_csv(out_dir / "labels.csv", index=False)
    return out_dir
