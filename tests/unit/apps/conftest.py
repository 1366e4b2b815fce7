"""A finished model that tells discs from squares, a folder to label, and the command line."""

import json

import pytest

from tests.conftest import draw_image
from utils_cv.__main__ import main


@pytest.fixture(scope="package")
def model_dir(small_probe, small_images, tmp_path_factory):
    """The folder of the finished model, with a title, a score and a license."""
    from utils_cv.evaluation.intervals import make_fraction_score
    from utils_cv.models.saved_classifier import save_classifier

    folder = tmp_path_factory.mktemp("models") / "shapes"
    scores = {"accuracy": make_fraction_score(5, 6)}
    save_classifier(small_probe, folder, images=small_images, scores=scores, title="My *shapes*", license="mit")
    return folder


@pytest.fixture
def new_images(tmp_path):
    """Three images below a folder with a blank in its name, and a text file that is called an image."""
    folder = tmp_path / "new images"
    (folder / "more").mkdir(parents=True)
    draw_image("can", seed=900).save(folder / "a.png")
    draw_image("carton", seed=901).save(folder / "more/a.png")
    draw_image("carton", seed=902).save(folder / "more/b.png")
    (folder / "text.jpg").write_text("no image")
    return folder


@pytest.fixture
def run(capsys):
    """Run a command; gives its exit code, what it printed, and what it said on standard error."""

    def run_command(*words):
        code = main([str(word) for word in words])
        printed, said = capsys.readouterr()
        return code, printed, said

    return run_command


def read_lines(text):
    """Parse JSON lines."""
    return [json.loads(line) for line in text.splitlines()]
