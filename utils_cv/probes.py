"""The linear head of a probe: logistic regression whose strength is chosen by cross-validation."""

import numpy as np

# Strengths to choose from; scikit-learn's C, for standardised features.
STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0)


def fit_linear_head(
    features: np.ndarray, targets: np.ndarray, *, n_classes: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a regularised linear classifier, its strength chosen by cross-validated log loss.

    Features are standardised, and the scaling is folded into the returned weights, so that they apply to features
    as they come.

    Args:
        features: (n_images, n_features).
        targets: (n_images,) class codes, or (n_images, n_classes) multi-hot.
        n_classes: Number of rows of the result.
        seed: Seed of the folds.

    Returns:
        Weight (n_classes, n_features) and bias (n_classes,), float32.

    Raises:
        ValueError: If a class has no image to learn from.
    """
    present = targets.any(axis=0) if targets.ndim == 2 else np.bincount(targets, minlength=n_classes) > 0
    if not present.all():
        raise ValueError(f"Classes {np.flatnonzero(~present).tolist()} have no train image; expected one or more each.")
    mean, std = features.mean(axis=0), features.std(axis=0)
    scale = np.where(std > 1e-6, std, 1.0)
    scaled = (features - mean) / scale
    if targets.ndim == 2:
        heads = [_fit_logistic(scaled, column.astype(int), seed) for column in targets.T]
        weight, bias = (np.concatenate(values) for values in zip(*heads, strict=True))
    else:
        weight, bias = _fit_logistic(scaled, targets, seed)
        if len(weight) < n_classes:  # two classes share one logit; (-w/2, w/2) gives the same probabilities
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scale
    return weight.astype(np.float32), (bias - weight @ mean).astype(np.float32)


def _fit_logistic(scaled: np.ndarray, codes: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit weight and bias, (1, n_features) and (1,) when there are two classes."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    # With fewer images than features the solution lies in the span of the images: the same answer from less.
    basis = np.linalg.svd(scaled, full_matrices=False)[2] if len(scaled) < scaled.shape[1] else np.eye(scaled.shape[1])
    projected = scaled @ basis.T
    n_folds = int(min(5, np.bincount(codes)[np.unique(codes)].min()))
    strength = STRENGTHS[1]  # a class with one image leaves nothing to choose by
    if n_folds >= 2:
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
        models = {c: LogisticRegression(C=c, max_iter=300) for c in STRENGTHS}
        losses = {
            c: -cross_val_score(model, projected, codes, cv=folds, scoring="neg_log_loss").mean()
            for c, model in models.items()
        }
        strength = min(losses, key=lambda c: losses[c])
    model = LogisticRegression(C=strength, max_iter=1000).fit(projected, codes)
    return model.coef_ @ basis, model.intercept_
