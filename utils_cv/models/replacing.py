"""What a model that is saved over another takes over from it, and what it says is lost."""

import contextlib
import dataclasses
import math
import warnings
from pathlib import Path
from typing import Any

from utils_cv.evaluation.out_of_distribution import OodDetector

from .model_files import WEIGHTS_NAME, ModelFileError, ModelInfo, read_model
from .unknown import read_detector

_ARGUMENTS = {"scores": "scores", "thresholds": "thresholds", "unknown": "detector"}  # of `save_classifier`
_SAME = ("class_names", "is_multilabel", "im_size_px", "fit", "value_range")


def take_over(
    info: ModelInfo, detector: OodDetector | None, network: Any, folder: Path
) -> tuple[ModelInfo, OodDetector | None]:
    """Take over what was measured for the model in a folder, where the network is the same; warn where it is not."""
    with contextlib.suppress(FileNotFoundError, ModelFileError):
        old, name, content = read_model(folder, [WEIGHTS_NAME])
        if not (lost := [fact for fact in _ARGUMENTS if getattr(old, fact) and not getattr(info, fact)]):
            return info, detector
        if all(getattr(old, fact) == getattr(info, fact) for fact in _SAME) and _is_same(network, old, content, folder):
            # JSON has no NaN: a score that is none comes back as None.
            scores = [{key: math.nan if value is None else value for key, value in row.items()} for row in old.scores]
            kept = dataclasses.replace(old, scores=scores)
            info = dataclasses.replace(info, **{fact: getattr(kept, fact) for fact in lost})
            return info, detector or read_detector(old, content, folder / name)
        given = ", ".join(f"{_ARGUMENTS[fact]}=..." for fact in lost)
        warnings.warn(
            f"Lost with the model that is replaced in {folder}, because it was measured for other weights: {given} "
            "Measure it for the new model, as the command `train` does, and pass it. To keep the old model, save into "
            "another folder.",
            stacklevel=3,
        )
    return info, detector


def _is_same(network: Any, old: ModelInfo, content: bytes, folder: Path) -> bool:
    """Tell whether a network is the saved one, to the bit."""
    import torch

    from .onnx_export import read_network

    own, other = network.state_dict(), read_network(old, content, folder / WEIGHTS_NAME).state_dict()
    return own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)
