"""Every study on a folder with broken files in each split and a class of three images: skipped, and nothing stops."""

import pandas as pd
import pytest

from tests.conftest import make_broken_dir
from utils_cv.data.image_table import load_image_table, load_table_images
from utils_cv.data.splits import complete_splits
from utils_cv.models.features import compute_features
from utils_cv.studies import training_accuracy_vs_speed, training_speed
from utils_cv.studies.annotation_quality.wrong_labels import measure_correction, measure_label_noise
from utils_cv.studies.augmentation import compare_augmentations
from utils_cv.studies.dataset_loading import corrupt_images
from utils_cv.studies.experiment import make_task
from utils_cv.studies.how_many_images.imbalance import measure_imbalance
from utils_cv.studies.how_many_images.learning_curve import measure_fine_tuning, measure_learning_curve
from utils_cv.studies.splits_and_test_sets import score_images

N_TEST = 9  # of 4 + 4 + 1 images of the test split that can be opened; 6 are broken


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return complete_splits(load_image_table(make_broken_dir(tmp_path_factory.mktemp("broken") / "data")))


@pytest.fixture(scope="module")
def images(table):
    with pytest.warns(UserWarning, match="Skipped 18 of 59 images"):
        images = load_table_images(table, 64)
    assert len(images.table) == len(images.pixels) == 41 and len(images.skipped) == 18
    return images


@pytest.fixture(scope="module")
def task(images):
    return make_task(images.table, compute_features(images.pixels))


@pytest.mark.parametrize(
    "study",
    [
        pytest.param(lambda task: measure_learning_curve(task, [1, 2], n_seeds=1), id="learning curve"),
        pytest.param(lambda task: measure_imbalance(task, ratio=2, n_seeds=1), id="imbalance"),
        pytest.param(lambda task: measure_label_noise(task, [0.2], n_seeds=1), id="label noise"),
        pytest.param(lambda task: measure_correction(task, n_rounds=1, n_seeds=1), id="correction"),
    ],
)
def test_studies_of_features_score_every_test_image_that_opens(task, study):
    assert {len(right) for right in study(task)["right"]} == {N_TEST}


def test_studies_of_pixels_score_every_test_image_that_opens(task, images):
    tuned = measure_fine_tuning(task, images, [1], backbone="efficientnet_lite0", n_seeds=1)
    assert {len(right) for right in tuned["right"]} == {N_TEST}
    assert set(compare_augmentations(images, ["mirror"], n_per_class=2, n_views=1, n_draws=1)["n"]) == {N_TEST}


@pytest.mark.filterwarnings("ignore:Skipped")
def test_studies_that_open_the_files_themselves_leave_out_what_does_not_open(table, tmp_path, monkeypatch):
    scored = score_images(table, im_size_px=64)
    opened = scored.images
    assert len(opened.table) == len(opened.pixels) == len(scored.features) == len(scored.codes) == 41
    copies, injected = corrupt_images(table, tmp_path / "copies")
    assert (len(copies), len(injected)) == (41 + 2, 10)
    monkeypatch.setattr(training_accuracy_vs_speed, "get_cache_dir", lambda name: tmp_path)
    settings = training_accuracy_vs_speed.list_settings(["efficientnet_lite0"], [64], ["onnx"])
    missing = table.iloc[:1].assign(image="gone.png", path=str(tmp_path / "gone.png"))
    rows = training_accuracy_vs_speed.compare_settings(
        pd.concat([missing, table], ignore_index=True), settings, n_repeats=2, batch_size=2
    )
    assert rows["n_valid"].tolist() == [9]


def test_measurements_of_speed_leave_out_what_does_not_open(table, tmp_path):
    paths, quick = list(table["path"]), {"im_size_px": 32, "n_repeats": 1}
    assert (training_speed.measure_opening(paths, tmp_path, [0.1], n_images=1, **quick)["median_ms"] > 0).all()
    assert (training_speed.measure_threads(paths, **quick)["median_ms"] > 0).all()
    assert (training_speed.measure_stages({"mine": paths}, im_size_px=32)["median_ms"] >= 0).all()
    with pytest.raises(ValueError, match="none can be opened"):
        training_speed.measure_threads([tmp_path / "gone.png"])
