"""The linear head of a probe: logistic regression whose strength is chosen by cross-validation."""

import numpy as np

# Strengths to choose from; scikit-learn's C, for features scaled as below.
STRENGTHS = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
DEFAULT_STRENGTH = 0.03
CLASS_WEIGHTS = {"none": None, "balanced": "balanced"}


def fit_linear_head(
    features: np.ndarray,
    targets: np.ndarray,
    *,
    n_classes: int,
    seed: int = 0,
    strength: float | None = None,
    class_weights: str = "none",
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a regularized linear classifier, its strength chosen by cross-validated log loss.

    Features are centered and divided by the geometric mean of their own spread and that of all: halfway between
    features as they come and standardized ones, which had a lower cross-validated loss than either on two sets of
    some 250 images. The scaling is folded into the returned weights, so that they apply to features as they come.

    Args:
        features: (n_images, n_features).
        targets: (n_images,) class codes, or (n_images, n_classes) multi-hot.
        n_classes: Number of rows of the result.
        seed: Seed of the folds.
        strength: Fixed strength, scikit-learn's C, in place of the cross-validation: ten times faster, for studies
            that fit hundreds of heads. None chooses one of `STRENGTHS`.
        class_weights: "balanced" lets every class count alike, "none" every image.

    Returns:
        Weight (n_classes, n_features) and bias (n_classes,), float32.

    Raises:
        ValueError: If a class has no image to learn from, or `class_weights` is unknown.
    """
    if class_weights not in CLASS_WEIGHTS:
        raise ValueError(f"Got class_weights={class_weights!r}; expected {' or '.join(map(repr, CLASS_WEIGHTS))}.")
    present = targets.any(axis=0) if targets.ndim == 2 else np.bincount(targets, minlength=n_classes) > 0
    if not present.all():
        raise ValueError(f"Classes {np.flatnonzero(~present).tolist()} have no train image; expected one or more each.")
    mean, std = features.mean(axis=0), features.std(axis=0)
    scale = np.sqrt(np.maximum(std, 1e-6) * max(float(np.sqrt((std**2).mean())), 1e-6))
    scaled = (features - mean) / scale
    if targets.ndim == 2:
        heads = [_fit_logistic(scaled, column.astype(int), seed, strength, class_weights) for column in targets.T]
        weight, bias = (np.concatenate(values) for values in zip(*heads, strict=True))
    else:
        weight, bias = _fit_logistic(scaled, targets, seed, strength, class_weights)
        if len(weight) < n_classes:  # two classes share one logit; (-w/2, w/2) gives the same probabilities
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scale
    return weight.astype(np.float32), (bias - weight @ mean).astype(np.float32)


def _fit_logistic(
    scaled: np.ndarray, codes: np.ndarray, seed: int, strength: float | None, class_weights: str
) -> tuple[np.ndarray, np.ndarray]:
    """Fit weight and bias, (1, n_features) and (1,) when there are two classes."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # products this small lose more to waiting for each other than threads gain
        # With fewer images than features the solution lies in the span of the images: the same answer from less.
        is_wide = len(scaled) < scaled.shape[1]
        basis = np.linalg.svd(scaled, full_matrices=False)[2] if is_wide else np.eye(scaled.shape[1])
        projected = scaled @ basis.T
        strength = _choose_strength(projected, codes, seed) if strength is None else strength
        weights = CLASS_WEIGHTS[class_weights]
        model = LogisticRegression(C=strength, class_weight=weights, max_iter=1000).fit(projected, codes)
    return model.coef_ @ basis, model.intercept_


def _choose_strength(projected: np.ndarray, codes: np.ndarray, seed: int) -> float:
    """Choose the strength with the lowest cross-validated log loss; each fit starts from the weaker one before it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold

    classes, counts = np.unique(codes, return_counts=True)
    n_folds = int(min(5, counts.min()))
    if n_folds < 2:
        return DEFAULT_STRENGTH  # a class with one image leaves nothing to choose by
    losses = np.zeros(len(STRENGTHS))
    for learned, held_out in StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(projected, codes):
        model = LogisticRegression(max_iter=300, warm_start=True)
        for i, strength in enumerate(STRENGTHS):
            model.set_params(C=strength).fit(projected[learned], codes[learned])
            losses[i] += log_loss(codes[held_out], model.predict_proba(projected[held_out]), labels=classes)
    return STRENGTHS[int(losses.argmin())]
