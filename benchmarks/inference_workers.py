"""Ways from a file to a label, each served by a process of its own: see `inference_peers.py`.

Side by side in one process, the threads of PyTorch and ONNX Runtime wait for each other, and an allocator that was
tuned for one serves all.
"""

import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

LEARNER_NAME = "learner.pkl"  # of our own making: a pickle runs code when it is loaded
Predict = Callable[[str], str]


class Worker:
    """A process that answers requests; a context manager.

    Args:
        name: One of `WAYS`.
        folder: What `save_classifier` wrote, with fastai's exported learner beside it.
    """

    def __init__(self, name: str, folder: Path) -> None:
        argv = [sys.executable, __file__, name, str(folder)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.communicate("")  # the end of its input ends it

    def time_predictions(self, path: str, n: int) -> tuple[str, list[float]]:
        """Predict a file n times; returns the label and the milliseconds of each."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps([path, n]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"The process ended with code {self.process.wait()}; its message is above.")
        label, times_ms = json.loads(line)
        return label, times_ms


def make_ours(folder: Path) -> Predict:
    """Make ours: ONNX Runtime, no torch."""
    from utils_cv.models.saved_classifier import load_classifier

    classifier = load_classifier(folder)
    return lambda path: classifier.predict_labels(path)[0]


def make_ours_int8(folder: Path, *, runtime: str = "int8") -> Predict:
    """Make ours in 8 bits, whatever the accuracy check would say."""
    from utils_cv.models.saved_classifier import load_classifier

    classifier = load_classifier(folder, runtime=runtime)
    return lambda path: classifier.predict_labels(path)[0]


def make_limit(folder: Path, *, runtime: str = "onnx") -> Predict:
    """Make the least that any way with this network and runtime can take: the raw decoder and the bare session.

    Nothing is resized; the network sees zeros, and no label is looked up.
    """
    import numpy as np
    import simplejpeg

    from utils_cv.models.runtimes import load_network

    network, pixels = load_network(folder, runtime), np.zeros((1, 224, 224, 3), np.uint8)

    def predict(path: str) -> str:
        simplejpeg.decode_jpeg(Path(path).read_bytes(), min_height=224, min_width=224)
        network(pixels)
        return ""

    return predict


def make_fastai(folder: Path) -> Predict:
    """Make fastai's: the exported learner, without the progress bar that it draws for each image."""
    learn = _load_learner(folder)

    def predict(path: str) -> str:
        with learn.no_bar(), learn.no_logging():
            return str(learn.predict(path)[0])

    return predict


def make_torchvision(folder: Path) -> Predict:
    """Decode, resize and predict with torchvision's functions and eager PyTorch."""
    import torch
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms.v2.functional import resize

    learn = _load_learner(folder)
    model, names = learn.model.eval(), list(learn.dls.vocab)

    @torch.inference_mode()
    def predict(path: str) -> str:
        image = resize(decode_image(path, ImageReadMode.RGB), [224, 224], antialias=True)
        return names[int(model(image[None].float() / 255).argmax())]

    return predict


def make_pipeline(folder: Path) -> Predict:
    """Make Hugging Face's pipeline around the same architecture and weights."""
    from transformers import (
        ImageClassificationPipeline,
        TimmWrapperConfig,
        TimmWrapperForImageClassification,
        TimmWrapperImageProcessor,
    )

    learn = _load_learner(folder)
    model, names = learn.model, dict(enumerate(learn.dls.vocab))
    facts: dict[str, Any] = {"input_size": (3, 224, 224), "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 1.0}
    facts |= {"crop_mode": "squash", "interpolation": "bilinear", "num_classes": len(names)}
    architecture = "tf_efficientnet_lite0"
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


WAYS: dict[str, Callable[[Path], Predict]] = {
    "ours": make_ours,
    "ours, 8 bits": make_ours_int8,
    "ours, 8 bits in OpenVINO": functools.partial(make_ours_int8, runtime="openvino_int8"),
    "limit of floats": make_limit,
    "limit of 8 bits": functools.partial(make_limit, runtime="int8"),
    "torchvision and eager PyTorch": make_torchvision,
    "Hugging Face pipeline": make_pipeline,
    "fastai learn.predict": make_fastai,
}


def _load_learner(folder: Path) -> Any:
    import warnings

    warnings.simplefilter("ignore")
    from fastai.learner import load_learner

    return load_learner(folder / LEARNER_NAME)


def serve(name: str, folder: Path) -> None:
    """Answer requests until the input ends: each a path and a number of predictions, in JSON, one per line."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    predict = WAYS[name](folder)
    for line in sys.stdin:
        path, n = json.loads(line)
        label, times_ms = "", []
        for _ in range(n):
            start = time.perf_counter()
            label = predict(path)
            times_ms.append((time.perf_counter() - start) * 1000)
        print(json.dumps([label, times_ms]), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
