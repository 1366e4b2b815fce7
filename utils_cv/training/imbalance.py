"""Rare classes, after the training: a trained model whose answers no longer favor the classes it saw most."""

import copy
import dataclasses

import numpy as np
import torch

from utils_cv.data.image_table import find_rows
from utils_cv.evaluation.calibration import adjust_logits

from .learner import TrainedModel, make_learner


def adjust_model(model: TrainedModel) -> TrainedModel:
    """Adjust a trained model for the rare classes among its train images, without training it again.

    A model learns how frequent the classes are, so it calls doubtful images by the name of a common one. Here the log
    of each class's share of the train images is subtracted from its logit (logit adjustment, Menon et al. 2021). The
    answers become those for images whose classes are equally frequent. The shift is a part of the bias of the head, so
    that a saved model, its ONNX file and every prediction have it.

    Args:
        model: A trained model, of one label per image and `balance="none"`.

    Returns:
        A new model; its `history` is still that of the training. The given one is not changed.

    Raises:
        ValueError: If images have several labels, the model was trained with another balance, or a class has no train
            image.
    """
    dls = model.learn.dls
    if model.is_multilabel:
        raise ValueError(
            "This model gives each label its own yes or no, so that no class takes the place of another: choose a "
            "threshold for each label, utils_cv.evaluation.multilabel.select_thresholds."
        )
    if dls.balance != "none":
        raise ValueError(f"This model was trained with balance={dls.balance!r}: rare classes count in it already.")
    counts = dls.images.table["label"].iloc[find_rows(dls.images)[0]].value_counts()
    counts = counts.reindex(model.class_names, fill_value=0).to_numpy()
    shift = adjust_logits(np.zeros((1, len(counts))), counts)[0]
    network = copy.deepcopy(model.learn.model)
    network.head.bias.data += torch.as_tensor(shift).to(network.head.bias)
    return dataclasses.replace(model, learn=make_learner(dls, model.backbone, network=network))
