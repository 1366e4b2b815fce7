"""The linear probe: a logistic regression on the features of a pretrained network, trained in seconds."""

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from utils_cv.data.image_table import TableImages, find_rows
from utils_cv.data.labels import encode_labels, list_class_names
from utils_cv.data.splits import list_groups
from utils_cv.evaluation.calibration import compute_losses, find_right, weigh_images
from utils_cv.models.features import compute_features
from utils_cv.models.linear_heads import fit_linear_head
from utils_cv.models.model_files import DEFAULT_BACKBONE
from utils_cv.system.threads import N_MANY
from utils_cv.system.timing import Timer

if TYPE_CHECKING:  # a head is fitted without PyTorch and fastai, which take more memory than 100,000 images
    from utils_cv.models.onnx_export import Normalized
    from utils_cv.models.saved_classifier import ImageClassifier

    from .trained_models import TrainedModel


def linear_probe(
    images: TableImages,
    *,
    backbone: str | None = None,
    features: np.ndarray | None = None,
    start: "TrainedModel | ImageClassifier | None" = None,
    balance: str = "none",
    seed: int = 0,
) -> "TrainedModel":
    """Train a linear head on the features of a pretrained network: seconds on a CPU, the baseline of all else.

    Args:
        images: Opened images; those of the split `train` are learned, those of `valid` are scored for the history. The
            regularization is chosen by cross-validation of the train images, in which images of one `group` of the
            table stay together.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes. Default: that of `start`, or
            "efficientnet_lite0".
        features: Of all images of the table, (n_images, n_features), where they were computed before.
        start: A trained model whose body is used in place of the pretrained one, with a new head: so a class can be
            added. It is not changed. See `utils_cv.training.trained_models.load_trained`.
        balance: Where some classes are rare: "weights" lets every class count alike, in the regularization chosen and
            in the losses of the history, too. "sampling" is the same here: an image drawn twice counts twice.
        seed: Seed of the folds.

    Returns:
        The backbone with the trained head, as one network.

    Raises:
        ValueError: If there are no train images, or a class has none, or `start` has another backbone or takes other
            images.
    """
    train_rows, valid_rows = find_rows(images)
    targets = encode_labels(images.table["label"], images.class_names, multilabel=images.is_multilabel)
    if missing := set(images.class_names) - set(list_class_names(images.table.iloc[train_rows])):
        raise ValueError(f"Classes {', '.join(sorted(missing))} have no train image; expected one or more each.")
    groups, n_classes = list_groups(images.table.iloc[train_rows]), len(images.class_names)
    network = None
    if start is not None:
        from .trained_models import take_start

        given: Any = take_start(start, images, backbone)
        network, backbone = copy.deepcopy(given.learn.model), given.backbone
        network.head = type(network.head)(network.head.in_features, n_classes).to(network.mean.device)
    backbone = backbone or DEFAULT_BACKBONE
    if features is None and not network:
        compute_features(images.pixels[:0], backbone=backbone)  # the export, which is done once, is not timed
    with Timer() as timer:
        if features is None:
            features = compute_rows_features(images, [*train_rows, *valid_rows], backbone, network)
        options: dict[str, Any] = {"groups": groups, "balanced": balance != "none", "seed": seed}
        head = fit_linear_head(features, targets[train_rows], rows=train_rows, n_classes=n_classes, **options)
    import torch

    from .learner import make_dataloaders, make_learner
    from .trained_models import make_trained_model

    learn = make_learner(make_dataloaders(images, balance=balance, seed=seed), backbone, network=network)
    for parameter, values in zip(learn.model.head.parameters(), head, strict=True):
        parameter.data.copy_(torch.from_numpy(values))
    logits = features @ head[0].T + head[1]

    def score(rows: list[int]) -> float:
        weights = weigh_images(targets[rows], targets[train_rows]) if balance != "none" else None
        return float(compute_losses(targets[rows], logits[rows], weights=weights).mean())

    valid_score = [np.nan, np.nan]
    if valid_rows:
        valid_score = [score(valid_rows), find_right(targets[valid_rows], logits[valid_rows]).mean()]
    return make_trained_model(learn, [[score(train_rows), *valid_score, timer.seconds]], first_epoch=0)


def compute_rows_features(
    images: TableImages, rows: list[int], backbone: str, network: "Normalized | None" = None
) -> np.ndarray:
    """Compute the features of some rows of the table, those of all others are NaN; with a network, by its body."""
    is_shown = len(rows) >= N_MANY
    if network:
        from utils_cv.models.onnx_export import Normalized

        from .trained_models import compute_logits

        body = Normalized(network.body, network.mean, network.std)
        found = compute_logits(body, images.pixels, rows, show_progress=is_shown)
    else:
        found = compute_features(images.pixels, rows, backbone=backbone, show_progress=is_shown)
    features = np.full((len(images.table), found.shape[1]), np.nan, np.float32)
    features[rows] = found
    return features
