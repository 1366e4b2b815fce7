"""Fixtures of the notebook tests: a small learnable subset of the demo images, or a folder of real photographs."""

import shutil

import pandas as pd
import pytest

from tests.notebooks.running import run_in_process
from utils_cv.data.image_table import find_repository

N_TRAIN, N_TEST = 10, 6  # images of each class: enough to learn something, few enough for seconds


@pytest.fixture(scope="session")
def data_dir(request, tmp_path_factory):
    """A folder for DATA_DIR: what `--data-dir` names, else a few images of each demo class."""
    given = request.config.getoption("--data-dir")
    return given or str(make_small_set("fridge_objects", tmp_path_factory.mktemp("small set")))


@pytest.fixture(scope="session")
def other_data_dir(tmp_path_factory):
    """Another folder for DATA_DIR, to see that it matters."""
    return str(make_small_set("fridge_objects", tmp_path_factory.mktemp("other set"), n_left_out=3))


@pytest.fixture(scope="session")
def other_sets(tmp_path_factory):
    """Small copies of the other demo sets, by name."""
    names = ("fridge_objects_video", "fridge_objects_shifted", "fridge_negatives")
    return {name: str(make_small_set(name, tmp_path_factory.mktemp(name))) for name in names}


@pytest.fixture(scope="module")
def base(request, data_dir):
    """The fast parameters of the notebook that a test module is about."""
    return {**request.module.FAST, "DATA_DIR": data_dir}


@pytest.fixture(scope="module")
def base_results(request, base):
    """What that notebook records with them."""
    return run_in_process(request.module.NAME, base)


def make_small_set(name, out_dir, *, n_left_out=0):
    """Copy some images of each class, split and kind of a demo set, with their labels."""
    in_dir = find_repository() / "data" / name
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
