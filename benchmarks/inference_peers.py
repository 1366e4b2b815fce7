"""One image from file to label: ours against fastai, Hugging Face's pipeline and plain torchvision.

    python benchmarks/inference_peers.py                        # the demo images
    python benchmarks/inference_peers.py --data-dir my/photos   # any folder of images

The same network with the same weights, in one process and in turn, so that the ratios hold whatever the machine does.
Needs `transformers` for the pipeline; without it that row is left out and said so.
"""

import argparse
import functools
import tempfile
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from utils_cv.classifiers import load_classifier, save_classifier
from utils_cv.datasets import complete_splits, load_image_table
from utils_cv.images import load_pixels
from utils_cv.quantization import choose_calibration_rows, quantize_onnx
from utils_cv.runners import STUDY_INT8_NAME, make_run
from utils_cv.runtime import describe_machine, keep_memory
from utils_cv.table_images import load_table_images
from utils_cv.timing import measure_fresh_process, measure_in_turn
from utils_cv.training import Trained, linear_probe

OURS = """
from utils_cv.classifiers import load_classifier
print(load_classifier({folder!r}).predict_labels({path!r})[0])
"""
FASTAI = """
import warnings
warnings.simplefilter("ignore")
from fastai.vision.all import load_learner
print(load_learner({learner!r}).predict({path!r})[0])
"""


def make_fastai(trained: Trained, paths: list[str], labels: list[str]) -> Any:
    """Make fastai's own learner around the trained network, as its documentation does."""
    from fastai.learner import Learner
    from fastai.losses import CrossEntropyLossFlat
    from fastai.vision.augment import Resize
    from fastai.vision.data import ImageDataLoaders

    resize = Resize(trained.im_size_px, method="squash")
    loaders = ImageDataLoaders.from_lists(".", paths, labels, item_tfms=resize, bs=8, num_workers=0, seed=0)
    return Learner(loaders, trained.learn.model, loss_func=CrossEntropyLossFlat())


def make_pipeline(trained: Trained) -> Callable[[str], str]:
    """Make Hugging Face's pipeline around the same architecture and weights."""
    from transformers import (
        ImageClassificationPipeline,
        TimmWrapperConfig,
        TimmWrapperForImageClassification,
        TimmWrapperImageProcessor,
    )

    model, size = trained.learn.model, trained.im_size_px
    facts = {"input_size": (3, size, size), "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 1.0}
    facts |= {"crop_mode": "squash", "interpolation": "bilinear", "num_classes": len(trained.class_names)}
    architecture = f"tf_{trained.backbone}"
    names = dict(enumerate(trained.class_names))
    config = TimmWrapperConfig(
        architecture=architecture, pretrained_cfg=facts, num_labels=len(names), id2label=names,
        label2id={name: code for code, name in names.items()},
    )  # fmt: skip
    wrapped = TimmWrapperForImageClassification(config).eval()
    weights = {f"timm_model.{name}": value for name, value in model.body.state_dict().items()}
    weights |= {f"timm_model.classifier.{name}": value for name, value in model.head.state_dict().items()}
    wrapped.load_state_dict(weights)
    processor = TimmWrapperImageProcessor(pretrained_cfg=facts, architecture=architecture)
    pipe = ImageClassificationPipeline(model=wrapped, image_processor=processor, device="cpu")
    return lambda path: pipe(path, top_k=1)[0]["label"]


def make_torchvision(trained: Trained) -> Callable[[str], str]:
    """Decode, resize and predict with torchvision's functions and eager PyTorch."""
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms.v2.functional import resize

    model, size = trained.learn.model.cpu().eval(), [trained.im_size_px] * 2

    @torch.inference_mode()
    def predict(path: str) -> str:
        image = resize(decode_image(path, ImageReadMode.RGB), size, antialias=True)
        return trained.class_names[int(model(image[None].float() / 255).argmax())]

    return predict


def show(title: str, functions: dict[str, Callable[[], object]], n_repeats: int) -> dict[str, float]:
    """Time in turn, print medians and their ratios to the first."""
    table = measure_in_turn(functions, n_repeats=n_repeats)
    medians = dict(zip(table["name"], table["median_ms"], strict=True))
    first = next(iter(medians.values()))
    print(f"\n{title} (n = {n_repeats} runs each, in turn)")
    for row in table.itertuples():
        busy = "  busy" if row.busy else ""
        print(
            f"  {row.name:34s} {row.median_ms:8.2f} ms  min {row.min_ms:8.2f}  p95 {row.p95_ms:8.2f}  "
            f"ratio {row.median_ms / first:6.2f}{busy}"
        )
    return medians


def compare_peers(trained: Trained, folder: Path, path: str, learner: Any, n_repeats: int) -> None:
    """From file to label."""
    classifier = load_classifier(folder)
    torchvision_predict = make_torchvision(trained)
    functions: dict[str, Callable[[], object]] = {
        "ours": lambda: classifier.predict_labels(path)[0],
        "torchvision and eager PyTorch": lambda: torchvision_predict(path),
        "fastai learn.predict": lambda: predict_quietly(learner, path),
    }
    if find_spec("transformers"):
        pipeline = make_pipeline(trained)
        functions["Hugging Face pipeline"] = lambda: pipeline(path)
    else:
        print("transformers is not installed: no row for its pipeline")
    print("answers:", {name: function() for name, function in functions.items()})
    show("from file to label", functions, n_repeats)


def predict_quietly(learner: Any, path: str) -> str:
    """Predict without fastai's progress bar."""
    with learner.no_bar(), learner.no_logging():
        return str(learner.predict(path)[0])


def compare_runtimes(folder: Path, pixels: np.ndarray, runtimes: list[str], n_repeats: int) -> None:
    """The network alone, one image; and what we add around the bare session."""
    keep_memory()
    runs = {runtime: make_run(folder, runtime) for runtime in runtimes}
    one = np.ascontiguousarray(pixels[:1])
    show("the network alone, one image", {name: functools.partial(run, one) for name, run in runs.items()}, n_repeats)
    classifier = load_classifier(folder)
    image = pixels[0]
    functions = {"bare session": lambda: runs["onnx"](one), "predict_labels": lambda: classifier.predict_labels(image)}
    medians = show("around the session, an array of the right size", functions, n_repeats)
    print(f"  added: {medians['predict_labels'] / medians['bare session'] - 1:.1%} of the session's time")


def compare_cold_starts(folder: Path, learner: Any, path: str, n_repeats: int) -> None:
    """A new process, to the first label."""
    learner_path = folder / "learner.pkl"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learner.export(learner_path.absolute())
    scripts = {
        "ours": OURS.format(folder=str(folder), path=path),
        "fastai load_learner": FASTAI.format(learner=str(learner_path.absolute()), path=path),
    }
    results: dict[str, list[float]] = {name: [] for name in scripts}
    memory = {}
    for _ in range(n_repeats):
        for name, script in scripts.items():
            done = measure_fresh_process(script)
            results[name].append(done.seconds)
            memory[name] = done.peak_memory_mb
    print(f"\ncold start to the first label (n = {n_repeats} fresh processes each, in turn)")
    ours = float(np.median(results["ours"]))
    for name, seconds in results.items():
        median = float(np.median(seconds))
        print(f"  {name:34s} {median:6.2f} s  peak {memory[name]:6.0f} MB  ratio {median / ours:6.2f}")


def main() -> None:
    """Train, save, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default="data/fridge_objects")
    parser.add_argument("--backbone", default="efficientnet_lite0", help="a packaged one, for the pipeline's weights")
    parser.add_argument("--runtimes", nargs="*", default=["torch", "channels_last", "onnx", "int8"])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--cold-starts", type=int, default=3)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    table = complete_splits(load_image_table(arguments.data_dir))
    images = load_table_images(table, 224)
    trained = linear_probe(images, backbone=arguments.backbone)
    print(describe_machine())
    print(f"{arguments.backbone}, 224 px, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as temporary_dir:
        folder = Path(temporary_dir) / "model"
        save_classifier(trained, folder, images=images)
        rows = choose_calibration_rows(images.table["split"].to_numpy(), n=96)
        quantize_onnx(folder / "model.onnx", folder / STUDY_INT8_NAME, images.pixels[rows])
        few = images.table.groupby("label").head(8)
        learner = make_fastai(trained, few["path"].tolist(), few["label"].tolist())
        path = str(images.table.loc[images.table["split"] == "test", "path"].iloc[0])
        pixels = load_pixels(path, 224)[None]
        compare_peers(trained, folder, path, learner, arguments.repeats)
        compare_runtimes(folder, pixels, arguments.runtimes, arguments.repeats)
        compare_cold_starts(folder, learner, path, arguments.cold_starts)


if __name__ == "__main__":
    main()
