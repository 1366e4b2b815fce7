"""The linear probe: a logistic regression on the features of a pretrained network, trained in seconds."""

import copy
import functools
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from utils_cv.data.image_table import TableImages, find_rows
from utils_cv.data.labels import encode_labels, list_class_names
from utils_cv.data.splits import list_groups, split_folds
from utils_cv.evaluation.calibration import compute_losses, weigh_images
from utils_cv.models.features import compute_features
from utils_cv.models.model_files import DEFAULT_BACKBONE
from utils_cv.system import threads
from utils_cv.system.timing import Timer

from .label_heads import fit_label_heads

if TYPE_CHECKING:  # a head is fitted without PyTorch and fastai, which take more memory than 100,000 images
    from utils_cv.models.onnx_export import Normalized
    from utils_cv.models.saved_classifier import ImageClassifier

    from .learner import TrainedModel

# Values to choose scikit-learn's C from, for features scaled as below: small ones regularize strongly.
C_GRID = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
DEFAULT_C = 0.03
N_FOLDS = 5
_N_ROWS = 4_096  # images whose features are computed at once
N_MANY = 20_000  # images, beyond which C is chosen by so many of them, and a fit takes half the digits and memory


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
            added. It is not changed. See `utils_cv.training.saved_models.load_trained`.
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
        from .saved_models import take_start

        given: Any = take_start(start, images, backbone)
        network, backbone = copy.deepcopy(given.learn.model), given.backbone
        network.head = type(network.head)(network.head.in_features, n_classes).to(network.mean.device)
    backbone = backbone or DEFAULT_BACKBONE
    if features is None and not network:
        compute_features(images.pixels[:1], backbone=backbone)  # the export, which is done once, is not timed
    with Timer() as timer:
        if features is None:
            features = compute_rows_features(images, [*train_rows, *valid_rows], backbone, network)
        options: dict[str, Any] = {"groups": groups, "balanced": balance != "none", "seed": seed}
        head = fit_linear_head(features, targets[train_rows], rows=train_rows, n_classes=n_classes, **options)
    import torch

    from .learner import make_dataloaders, make_learner, make_trained_model

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


def fit_linear_head(
    features: np.ndarray,
    targets: np.ndarray,
    *,
    rows: Any = None,
    n_classes: int,
    C: float | None = None,
    groups: np.ndarray | None = None,
    balanced: bool = False,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a regularized linear classifier, scikit-learn's LogisticRegression: weight (n_classes, n_features) and bias.

    Features are centered and divided by the geometric mean of their own spread and that of all, which had a lower
    cross-validated loss than either on two sets of about 250 images. `targets` are codes (n_images,), or 0 and 1
    (n_images, n_classes). Without `C` one of `C_GRID` is chosen by cross-validated log loss of at most 20,000 images,
    with equal `groups` in one fold: a fold that knows the scene asks for too little regularization. `balanced`: classes
    count alike.
    """
    present = targets.any(axis=0) if targets.ndim == 2 else np.bincount(targets, minlength=n_classes) > 0
    if not present.all():
        raise ValueError(f"Classes {np.flatnonzero(~present).tolist()} have no train image; expected one or more each.")
    scaled = np.take(features, np.arange(len(features)) if rows is None else rows, axis=0)  # the only copy
    # Some columns at a time, since NumPy copies what it takes the standard deviation of.
    mean, parts = scaled.mean(axis=0), np.array_split(scaled, 16, axis=1)
    std = np.concatenate([part.std(axis=0) for part in parts])
    scale = np.sqrt(np.maximum(std, 1e-6) * max(float(np.sqrt((std**2).mean())), 1e-6))
    scaled -= mean
    scaled /= scale
    is_many = targets.ndim == 1 and len(scaled) > max(N_MANY, scaled.shape[1])
    weights = weigh_images(targets, targets) if balanced else np.ones(targets.shape)
    # Small products lose more to waiting for each other than threads gain.
    with threadpool_limits(None if is_many else 1):
        # With fewer images than features the solution lies in the span of the images: the same answer from less.
        basis = None
        if len(scaled) < scaled.shape[1]:
            basis = np.linalg.svd(scaled, full_matrices=False)[2]
        elif targets.ndim == 2:
            basis = np.linalg.eigh(scaled.T @ scaled)[1].T
        if not is_many:
            scaled = scaled.astype(float) if basis is None else scaled @ basis.T
        options: dict[str, Any] = {"groups": groups, "weights": weights, "seed": seed}
        if targets.ndim == 2:
            options |= {"Cs": C_GRID if C is None else (C,), "default": DEFAULT_C, "n_folds": N_FOLDS}
            weight, bias = fit_label_heads(scaled, targets, **options)
        else:
            weight, bias = _fit_logistic(scaled, targets, C, **options)
    weight = weight.astype(float) if basis is None else weight @ basis
    if len(weight) < n_classes:  # two classes share one logit; (-w/2, w/2) gives the same probabilities
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scale
    return weight.astype(np.float32), (bias - weight @ mean).astype(np.float32)


def fit_known_classes(
    features: np.ndarray, labels: np.ndarray, *, n_classes: int, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """As `fit_linear_head`, where some classes may have no image: their logit is minus infinity."""
    several = labels.ndim == 2
    classes = np.flatnonzero(labels.any(axis=0)) if several else np.unique(labels)
    weight, bias = np.zeros((n_classes, features.shape[1]), np.float32), np.full(n_classes, -np.inf, np.float32)
    bias[classes] = 0  # of one class there is nothing to learn
    if len(classes) > (not several):
        codes = labels[:, classes] if several else np.searchsorted(classes, labels)
        weight[classes], bias[classes] = fit_linear_head(features, codes, n_classes=len(classes), **options)
    return weight, bias


def compute_rows_features(
    images: TableImages, rows: list[int], backbone: str, network: "Normalized | None" = None
) -> np.ndarray:
    """Compute the features of some rows of the table, those of all others are NaN; with a network, by its body."""
    compute: Any = functools.partial(compute_features, images.pixels, backbone=backbone)
    if network:
        from utils_cv.models.onnx_export import Normalized

        from .learner import compute_logits

        body = Normalized(network.body, network.mean.flatten().tolist(), network.std.flatten().tolist())
        compute = functools.partial(compute_logits, body, images.pixels)
    if len(rows) >= threads.N_MANY:
        threads.announce(f"Features of {len(rows):,} images", rows, compute, "in batches. A smaller size takes less.")
    features = np.zeros((0, 0), np.float32)
    for first in range(0, len(rows), _N_ROWS):
        part = compute(rows[first : first + _N_ROWS])
        features = features if first else np.full((len(images.table), part.shape[1]), np.nan, np.float32)
        features[rows[first : first + _N_ROWS]] = part
    return features


def count_units(codes: np.ndarray, groups: np.ndarray | None) -> pd.Series:
    """Count the images of each class, or its groups where there are some; the index is the class, or the column."""
    units = np.arange(len(codes)) if groups is None else np.asarray(groups)
    rows, codes = np.nonzero(codes) if codes.ndim == 2 else (slice(None), codes)
    units = pd.DataFrame({"code": codes, "unit": units[rows]})
    return units.drop_duplicates()["code"].value_counts()


def find_right(targets: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Find which answers are right, (n_images,); multi-label: which labels, (n_images, n_classes)."""
    return (logits > 0) == (targets > 0.5) if targets.ndim == 2 else logits.argmax(axis=1) == targets


def _fit_logistic(
    projected: np.ndarray,
    codes: np.ndarray,
    C: float | None,
    groups: np.ndarray | None,
    weights: np.ndarray,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit weight and bias, (1, n_features) and (1,) where there are two classes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes")  # as many as images are usual
        if C is None:
            with warnings.catch_warnings():  # after 300 steps a fit is judged as it is: the loss decides
                warnings.filterwarnings("ignore", category=ConvergenceWarning)
                C = _choose_c(projected, codes, groups, weights, seed)
        model = LogisticRegression(C=C, max_iter=1000).fit(projected, codes, weights)
    return model.coef_, model.intercept_


def _choose_c(
    projected: np.ndarray, codes: np.ndarray, groups: np.ndarray | None, weights: np.ndarray, seed: int
) -> float:
    """Choose C by cross-validated log loss, whose first rise ends the search; each fit starts from the one before."""
    rows = np.arange(len(codes))
    if len(codes) > N_MANY:
        rows = np.sort(np.random.default_rng(seed).permutation(len(codes))[:N_MANY])
        counts = count_units(codes[rows], None if groups is None else groups[rows])
        rows = rows[np.isin(codes[rows], counts.index[counts >= N_FOLDS])]  # rarer classes have no say
        if len(np.unique(codes[rows])) < 2:
            return DEFAULT_C
        codes, groups = codes[rows], None if groups is None else groups[rows]
    n_folds = min(N_FOLDS, count_units(codes, groups).min())
    if n_folds < 2:
        return DEFAULT_C  # a class with one image leaves nothing to choose by
    codes, folds = np.unique(codes, return_inverse=True)[1], split_folds(codes, groups, n_folds=n_folds, seed=seed)
    # Groups of several classes may leave a fold without one of them.
    folds = [fold for fold in folds if len(np.unique(codes[fold[0]])) > codes.max()]
    models = [LogisticRegression(max_iter=300, warm_start=True) for _ in folds]
    chosen, lowest = DEFAULT_C, np.inf
    for candidate in C_GRID if folds else ():
        loss = 0.0
        for model, (learned, held_out) in zip(models, folds, strict=True):
            own, others = rows[learned], rows[held_out]
            model.set_params(C=candidate).fit(projected[own], codes[learned], weights[own])
            # scikit-learn's log_loss, which takes as long as a fit to check its arguments.
            found = model.predict_proba(projected[others])[np.arange(len(others)), codes[held_out]]
            least = np.finfo(found.dtype).eps
            loss -= np.average(np.log(found.clip(least, 1 - least)), weights=weights[others])
        if loss >= lowest:
            break
        chosen, lowest = candidate, loss
    return chosen
