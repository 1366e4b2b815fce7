"""Linear heads: a logistic regression on features, of one label per image or of many, without PyTorch.

One label per image is fitted by scikit-learn. Many labels are fitted at once: all labels and folds share the products
with the features.
"""

import warnings
from typing import Any

import numpy as np
from scipy.special import logit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from utils_cv.data.splits import count_units, split_folds
from utils_cv.evaluation.calibration import weigh_images

# Values to choose scikit-learn's C from, for features scaled as below: small ones regularize strongly.
C_GRID = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
DEFAULT_C = 0.03
N_FOLDS = 5
N_MANY = 20_000  # images, beyond which C is chosen by so many of them, and a fit takes half the digits and memory
# Labels of one matrix product: few, so that its arrays stay small, and enough, so that it is fast.
LABELS_AT_ONCE = 100
# A fit is done when a step promises less than this share of the penalty, or than rounding does to the loss.
TOLERANCE, FOLD_TOLERANCE, ROUNDING, MAX_STEPS = 1e-6, 1e-4, 1e-10, 1_000
KEPT_SHARE = 0.75  # fits that are done are taken out of the arrays when so few of them are left
BAR_AFTER_S = 3


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
        fit = _fit_label_heads if targets.ndim == 2 else _fit_logistic
        weight, bias = fit(scaled, targets, C, groups, weights, seed)
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
    # Ten times the usual tolerance takes two thirds of the time, and changed one choice of 45, to its neighbor.
    models = [LogisticRegression(max_iter=300, tol=1e-3, warm_start=True) for _ in folds]
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


def _fit_label_heads(
    inputs: np.ndarray,
    targets: np.ndarray,
    C: float | None,
    groups: np.ndarray | None,
    weights: np.ndarray,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit weight (n_labels, n_features) and bias (n_labels,) as scikit-learn's LogisticRegression would label by label.

    `inputs` are centered, with orthogonal columns; `targets` and `weights` are (n_images, n_labels). The first rise of
    a label's cross-validated loss ends its search in the ascending `C_GRID`; `DEFAULT_C` where none can tell.
    """
    inputs = np.column_stack([inputs, np.ones(len(inputs), np.float32)]).astype(np.float32, copy=False)
    heads = np.empty((targets.shape[1], inputs.shape[1]), np.float32)
    with tqdm(total=len(heads), desc="labels", delay=BAR_AFTER_S) as bar:
        for first in range(0, len(heads), LABELS_AT_ONCE):
            part = slice(first, first + LABELS_AT_ONCE)
            y, w = (values[:, part].astype(np.float32) for values in (targets, weights))
            start, chosen = _start(inputs, y, w), np.full(y.shape[1], C or DEFAULT_C)
            if C is None:
                chosen = _choose_label_cs(inputs, y, w, _list_folds(y, groups, seed), start)
            heads[part] = _minimize(inputs, y, w, chosen, start, TOLERANCE).T
            bar.update(y.shape[1])
    return heads[:, :-1], heads[:, -1]


def _list_folds(y: np.ndarray, groups: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """List the label of each fold, and which images it learns, (n_images, n_fits); labels have folds of their own."""
    shared = None  # with groups, since to balance each label over them takes a second for every few labels
    if groups is not None and len(np.unique(groups)) >= N_FOLDS:
        shared = split_folds(np.zeros(len(y)), groups, n_folds=N_FOLDS, seed=seed)
    label_of, is_learned = [], []
    for label, codes in enumerate(y.T):
        n_own = int(min(N_FOLDS, codes.sum(), len(codes) - codes.sum()))
        own = split_folds(codes, n_folds=n_own, seed=seed) if groups is None and n_own > 1 else shared or []
        for rows, _ in own:
            if len(np.unique(codes[rows])) == len(np.unique(codes)):  # groups may leave a fold without the label
                label_of.append(label)
                is_learned.append(np.bincount(rows, minlength=len(y)))
    return np.array(label_of, int), np.array(is_learned, np.float32).reshape(-1, len(y)).T


def _choose_label_cs(
    inputs: np.ndarray,
    y: np.ndarray,
    w: np.ndarray,
    folds: tuple[np.ndarray, np.ndarray],
    start: np.ndarray,
) -> np.ndarray:
    """Choose the C of each label; each fit starts from the one before. `start` gets the means of the folds' heads."""
    (label_of, is_learned), n_labels = folds, y.shape[1]
    y, w = y[:, label_of], w[:, label_of]
    heads = _start(inputs, y, w * is_learned)
    chosen, best, is_open = np.full(n_labels, DEFAULT_C), np.full(n_labels, np.inf), np.isin(range(n_labels), label_of)
    for C in C_GRID:
        columns = np.flatnonzero(is_open[label_of])
        if not len(columns):
            break
        targets, learned, held_out = (v[:, columns] for v in (y, w * is_learned, w * (1 - is_learned)))
        heads[:, columns] = _minimize(
            inputs, targets, learned, np.full(len(columns), C), heads[:, columns], FOLD_TOLERANCE
        )
        losses = _measure_losses(inputs @ heads[:, columns], targets, held_out) / held_out.sum(axis=0)
        total = np.bincount(label_of[columns], losses, minlength=n_labels)
        is_open &= total < best
        chosen[is_open], best[is_open] = C, total[is_open]
        for label in np.flatnonzero(is_open):
            start[:, label] = heads[:, label_of == label].mean(axis=1)
    return chosen


def _start(inputs: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Heads, (n_features + 1, n_fits), that know how frequent the labels are, and nothing of the features."""
    heads, n = np.zeros((inputs.shape[1], y.shape[1]), np.float32), w.sum(axis=0)
    heads[-1] = logit(np.clip((w * y).sum(axis=0) / n, 0.5 / n, 1 - 0.5 / n))
    return heads


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * z)  # several times as fast as scipy's expit, which is exact near 0


def _measure_losses(logits: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    return (w * (np.logaddexp(0, logits) - y * logits)).sum(axis=0)


def _minimize(
    inputs: np.ndarray, y: np.ndarray, w: np.ndarray, C: np.ndarray, heads: np.ndarray, tolerance: float
) -> np.ndarray:
    """Minimize all columns' losses by preconditioned conjugate gradients (Polak and Ribiere); inputs are orthogonal."""
    found, column = heads.copy(), np.arange(y.shape[1])
    penalty = (np.arange(len(heads)) < len(heads) - 1).astype(np.float32)[:, None] / C.astype(np.float32)
    z = inputs @ heads
    p, least = _sigmoid(z), ROUNDING * _measure_losses(z, y, w)
    scale = (inputs**2).sum(axis=0)[:, None] * (w * p * (1 - p)).mean(axis=0) + penalty + 1e-12
    direction, last_gradient, last_slope = np.zeros_like(heads), np.zeros_like(heads), np.ones_like(least)
    for _ in range(MAX_STEPS):
        gradient = inputs.T @ (w * (p - y)) + penalty * heads
        slope = (gradient * gradient / scale).sum(axis=0)
        is_open = slope > tolerance * (penalty * heads**2).sum(axis=0) + least
        if is_open.mean() <= KEPT_SHARE:
            found[:, column] = heads
            if not is_open.any():
                break
            state: tuple[Any, ...] = (y, w, z, p, heads, penalty, scale, least)
            state += (gradient, slope, direction, last_gradient, last_slope)
            y, w, z, p, heads, penalty, scale, least, gradient, slope, direction, last_gradient, last_slope = (
                values[..., is_open] for values in state
            )
            column = column[is_open]
        turn = np.maximum(0, (gradient * (gradient - last_gradient) / scale).sum(axis=0) / last_slope)
        direction = turn * direction - gradient / scale
        last_gradient, last_slope, along = gradient, slope, inputs @ direction
        length, change = np.zeros_like(least), (penalty * direction * heads).sum(axis=0)
        curvature = (penalty * direction**2).sum(axis=0)
        for q in (p, None):
            q = _sigmoid(z + length * along) if q is None else q
            first = (w * (q - y) * along).sum(axis=0) + change + length * curvature
            length -= first / ((w * q * (1 - q) * along**2).sum(axis=0) + curvature + 1e-12)
        heads, z = heads + length * direction, z + length * along
        p = _sigmoid(z)
    else:
        found[:, column] = heads
    return found
