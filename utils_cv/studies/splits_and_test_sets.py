"""How honest a score is: scenes on both sides of a split, copies of test images, other conditions, smaller objects.

Works on features that a frozen backbone computed once, so that a split takes a fraction of a second. An answer is one
label of one image. Of several labels each yes or no is an answer, and those of an image (or group) belong together.
"""

import functools
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance
from scipy.special import expit, softmax

from utils_cv.data.image_table import TableImages, load_image_table, load_table_images
from utils_cv.data.labels import encode_labels, is_multilabel, list_class_names, split_labels
from utils_cv.data.splits import count_units, list_groups, split_folds
from utils_cv.evaluation.calibration import find_right
from utils_cv.evaluation.intervals import Score, compare_means, compare_scores, measure_mean
from utils_cv.models.features import compute_features
from utils_cv.models.linear_heads import fit_linear_head
from utils_cv.models.model_files import DEFAULT_BACKBONE

from .experiment import FIXED_C, tabulate_trials

Data = tuple[np.ndarray, np.ndarray]  # features (n_images, n_features), and classes
RANDOM, GROUPED = "random split", "scenes kept together"
SHARES = (0.1, 0.25, 0.5, 1.0)  # of the test images, that are copied


@dataclass(frozen=True)
class ScoredImages:
    """Images with the answers of a classifier that learned those of the `train` split."""

    images: TableImages  # the opened ones
    answers: pd.DataFrame  # their table and `right`; of several labels a row per decision, with the image as `group`
    features: np.ndarray  # (n_images, n_features)
    codes: np.ndarray  # class codes (n_images,), or 0 and 1 (n_images, n_labels)
    probabilities: np.ndarray  # (n_images, n_classes); rows add up to 1, except of several labels


def score_images(
    table: pd.DataFrame, *, im_size_px: int = 224, backbone: str = DEFAULT_BACKBONE, seed: int = 0
) -> ScoredImages:
    """Open the images of a table, learn those of the `train` split on a frozen backbone, and predict all.

    Args:
        table: An image table; every class has train images.
        im_size_px: Side of the square images.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        seed: Seed of the cross-validation that chooses the regularization.

    Returns:
        The images with predictions. Those of train images say nothing about accuracy.

    Raises:
        ValueError: If a class has no train image.
    """
    images = load_table_images(table, im_size_px)
    features = compute_features(images.pixels, backbone=backbone)
    codes = encode_labels(images.table["label"], images.class_names, multilabel=images.is_multilabel)
    train = np.flatnonzero(images.table["split"] == "train")
    groups, n_classes = list_groups(images.table.iloc[train]), len(images.class_names)
    weight, bias = fit_linear_head(features[train], codes[train], n_classes=n_classes, groups=groups, seed=seed)
    logits, answers, probabilities = features @ weight.T + bias, images.table, functools.partial(softmax, axis=1)
    if images.is_multilabel:
        probabilities = expit
        own = list_groups(answers) if "group" in answers else answers["path"]
        answers = answers.assign(group=own).loc[answers.index.repeat(n_classes)]
    answers = answers.assign(right=find_right(codes, logits).ravel())
    return ScoredImages(images, answers, features, codes, probabilities(logits))


def load_matching_table(source: str, own: pd.DataFrame) -> pd.DataFrame:
    """Load further images of an image table's classes; an empty table where `source` is "" or holds none of them."""
    table = load_image_table(source) if source else pd.DataFrame({"label": []})
    class_names, split = set(list_class_names(own)), split_labels if is_multilabel(own) else lambda label: [label]
    is_known = table["label"].map(lambda label: set(split(label)) <= class_names).astype(bool)
    # Without the columns of a set that does not fit.
    return table[is_known].reset_index(drop=True) if is_known.any() else pd.DataFrame(columns=["path", "label"])


def compare_splits(
    features: np.ndarray,
    codes: np.ndarray,
    groups: Any,
    other: Data,
    *,
    other_groups: np.ndarray | None = None,
    n_folds: int = 5,
    n_repeats: int = 4,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score the same images with a random split and with one that keeps groups together, and see which score holds.

    Every image is scored once per repeat, by a model that was trained on the other folds. Both kinds of split train on
    equally many images. All models are scored on other images as well, which share no group with any of them.

    Args:
        features: (n_images, n_features).
        codes: (n_images,) classes, 0 to n_classes - 1; or 0 and 1, (n_images, n_labels).
        groups: (n_images,) scene, video or patient of each image.
        other: Features and classes of images that share no group with the first ones.
        other_groups: Their own groups, if they have some.
        n_folds: Parts of a split, each scored once; fewer where a class has fewer groups.
        n_repeats: Repeats with other random numbers.
        seed: Seed of the splits.

    Returns:
        Two tables with `name`, `value`, `low`, `high`, `n`: what each split claims and what its models score on the
        other images; and the differences random minus grouped (paired), random minus truth and grouped minus truth.
        Intervals of claims count groups as independent, not images.

    Raises:
        ValueError: If a class has one group.
    """
    groups = np.unique(np.asarray(groups), return_inverse=True)[1]
    n_groups = int(count_units(codes, groups).min())
    if n_groups < 2:
        raise ValueError(f"A class has {n_groups} groups; expected two or more in every class, to learn and to test.")
    trial = functools.partial(_score_folds, (features, codes), groups, other, min(n_folds, n_groups))
    settings = [
        {"split": split, "seed": seed * 1000 + repeat} for repeat in range(n_repeats) for split in (RANDOM, GROUPED)
    ]
    trials = tabulate_trials(trial, settings, description="splits")
    is_judged = np.isfinite(np.stack(trials["right"])).all(axis=0)
    groups, other_groups = _repeat(groups, codes)[is_judged], _repeat(other_groups, other[1])
    right, claimed, real = {}, {}, {}
    for split, part in trials.groupby("split"):
        right[split] = np.stack(part["right"])[:, is_judged]
        claimed[split] = measure_mean(right[split], groups=groups)
        real[split] = measure_mean(np.stack(part["other"]), groups=other_groups)
    scores = {f"{split}, claimed": claimed[split] for split in (RANDOM, GROUPED)}
    scores |= {f"{split}, on other scenes": real[split] for split in (RANDOM, GROUPED)}
    differences = {
        "random minus grouped": compare_means(right[RANDOM], right[GROUPED], groups=groups),
        "random minus truth": compare_scores(claimed[RANDOM], real[RANDOM]),
        "grouped minus truth": compare_scores(claimed[GROUPED], real[GROUPED]),
    }
    return _make_rows(scores), _make_rows(differences)


def _score_folds(
    data: Data, groups: np.ndarray, other: Data, n_folds: int, split: str, seed: int
) -> dict[str, np.ndarray]:
    features, codes = data
    right, other_right = np.full(codes.shape, np.nan), []
    for train, test in split_folds(codes, None if split == RANDOM else groups, n_folds=n_folds, seed=seed):
        predict = _learn(features[train], codes[train])
        right[test] = find_right(codes[test], predict(features[test]))
        other_right.append(find_right(other[1], predict(other[0])).ravel())
    return {"right": right.ravel(), "other": np.mean(other_right, axis=0)}


def measure_injected_duplicates(
    train: Data, test: Data, copies: np.ndarray, *, groups: np.ndarray | None = None, n_draws: int = 5, seed: int = 0
) -> pd.DataFrame:
    """Put near-copies of some test images among the training images and see what the test score then claims.

    Args:
        train: Features (n_train, n_features) and classes (n_train,), or 0 and 1 (n_train, n_labels).
        test: Features (n_test, n_features) and classes (n_test,), likewise.
        copies: (n_test, n_features), features of a near-copy of each test image.
        groups: (n_test,), images of one group do not count as independent. Default: all do.
        n_draws: Draws of the images that are copied.
        seed: Seed of the draws.

    Returns:
        One row per share: `share`, its `name`, `n_copies`, `accuracy`, and the difference to no copies: `value`, `low`,
        `high` (paired, 95 %, over test images and draws), `n`.
    """
    trial = functools.partial(_score_with_copies, train, test, copies)
    settings = [{"share": share, "seed": seed * 1000 + draw} for share in (0.0, *SHARES) for draw in range(n_draws)]
    trials = tabulate_trials(trial, settings, description="duplicates")
    right = {share: np.stack(part["right"]) for share, part in trials.groupby("share")}
    groups, rows = _repeat(groups, test[1]), []
    for share in SHARES:
        row = {"share": share, "n_copies": round(share * len(copies)), "accuracy": float(right[share].mean())}
        change = compare_means(right[share], right[0.0], groups=groups)._asdict()
        rows.append({"name": f"{100 * share:.0f} % of the test images copied", **row, **change})
    return pd.DataFrame(rows)


def _score_with_copies(train: Data, test: Data, copies: np.ndarray, share: float, seed: int) -> dict[str, np.ndarray]:
    copied = np.random.default_rng(seed).permutation(len(copies))[: round(share * len(copies))]
    predict = _learn(np.concatenate([train[0], copies[copied]]), np.concatenate([train[1], test[1][copied]]))
    return {"right": find_right(test[1], predict(test[0])).ravel()}


def make_near_copies(pixels: np.ndarray) -> np.ndarray:
    """Make copies as a second export would: 10 % brighter, 5 % cut off at each side, and compressed again as JPEG.

    Args:
        pixels: uint8, (n, size, size, 3).

    Returns:
        New images of the same shape.

    Example:
        >>> make_near_copies(np.zeros((2, 32, 32, 3), np.uint8)).shape
        (2, 32, 32, 3)
    """
    copies = np.empty_like(pixels)
    for i, image in enumerate(pixels):
        side, margin = image.shape[0], 0.05 * image.shape[0]
        box = (margin, margin, side - margin, side - margin)
        copy = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, box=box)
        buffer = io.BytesIO()
        ImageEnhance.Brightness(copy).enhance(1.1).save(buffer, "JPEG", quality=60)
        copies[i] = np.asarray(Image.open(buffer))
    return copies


def measure_shifts(test: pd.DataFrame, shifted: pd.DataFrame) -> pd.DataFrame:
    """Compare the accuracy on images taken under other conditions with that on the test images.

    Where shifted images show the same scenes as test images, the two are compared scene by scene (paired); otherwise
    all of one are compared with all of the other.

    Args:
        test: One row per answer: `right` (whether the model was), and `scene` where known.
        shifted: One row per answer for a shifted image: `right`, `shift`, and `scene` where known.

    Returns:
        One row per shift: `shift`, `accuracy`, `accuracy_low`, `accuracy_high`, `test_accuracy` (of the same scenes
        where paired), and the difference to it: `value`, `low`, `high`, `n`, `is_paired`.

    Example:
        >>> test = pd.DataFrame({"scene": [1, 2, 3], "right": [True, True, True]})
        >>> dark = pd.DataFrame({"scene": [1, 2, 3], "right": [True, False, False], "shift": "night"})
        >>> round(measure_shifts(test, dark)["value"].item(), 3)
        -0.667
    """
    rows = []
    for name, part in shifted.groupby("shift", sort=False):
        score = measure_mean(part["right"], groups=list_groups(part))
        same_scene = _find_same_scene(test, part)
        if same_scene is None:
            change = compare_scores(score, measure_mean(test["right"], groups=list_groups(test)))
        else:
            change = compare_means(part["right"], same_scene, groups=part["scene"])
        row: dict[str, Any] = {"shift": name} | score.name_limits("accuracy")
        row["test_accuracy"] = float(test["right"].mean() if same_scene is None else np.mean(same_scene))
        rows.append(row | change._asdict() | {"n": score.n, "is_paired": same_scene is not None})
    return pd.DataFrame(rows)


def _find_same_scene(test: pd.DataFrame, part: pd.DataFrame) -> np.ndarray | None:
    """Whether the model was right on the test image of the same scene, (n,); None unless every image has one."""
    if "scene" not in test or "scene" not in part or not part["scene"].isin(test["scene"]).all():
        return None
    return part["scene"].map(test.groupby("scene")["right"].mean()).to_numpy(dtype=float)


def compare_input_sizes(
    tables: Mapping[int, pd.DataFrame], *, edges: Sequence[float], rule: float = 0.2
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test a rule of thumb about the width of objects, at two sizes of the network's input.

    Args:
        tables: Input size in pixels to the scored images, the same rows in the same order: `right` and
            `object_width_fraction` (a share of the image's width; images of unknown width are left out).
        edges: Limits of the bins of the width, increasing.
        rule: The least width that the rule asks for.

    Returns:
        Accuracy by width (`name` of the size, `mean_width`, `accuracy`, `accuracy_low`, `accuracy_high`, `n`); and
        differences of accuracy (`name`, `value`, `low`, `high`, `n`): wide minus narrow objects at each size, the
        larger minus the smaller input for wide and for narrow objects (paired), and how much more narrow objects gain.

    Raises:
        ValueError: If there are not two sizes, the edges do not increase, or no object is wide, or none is narrow.
    """
    if len(tables) != 2 or (np.diff(edges) <= 0).any():
        raise ValueError(f"Expected two input sizes and increasing edges, got {list(tables)} and {list(edges)}.")
    small, large = sorted(tables)
    widths = tables[small]["object_width_fraction"].to_numpy(dtype=float)
    is_wide, is_narrow = widths >= rule, widths < rule
    if not is_wide.any() or not is_narrow.any():
        raise ValueError(f"Got {is_wide.sum()} wide and {is_narrow.sum()} narrow objects; expected both.")
    right = {size: tables[size]["right"].to_numpy(dtype=bool) for size in (large, small)}
    groups = _repeat(list_groups(tables[small]), widths)

    def score(size: int, is_kept: np.ndarray) -> Score:
        return measure_mean(right[size][is_kept], groups=groups[is_kept])

    bins = []
    for size, (low, high) in itertools.product(right, itertools.pairwise(edges)):
        is_in = (widths >= low) & (widths < high)
        if is_in.any():
            found = score(size, is_in)
            row = {"name": f"{size} px", "mean_width": float(widths[is_in].mean())}
            bins.append(row | found.name_limits("accuracy") | {"n": found.n})
    changes = {
        f"wide minus narrow, {size} px": compare_scores(score(size, is_wide), score(size, is_narrow)) for size in right
    }
    wide, narrow = (
        compare_means(right[large][kept], right[small][kept], groups=groups[kept]) for kept in (is_wide, is_narrow)
    )
    changes |= {f"{large} minus {small} px, wide": wide, f"{large} minus {small} px, narrow": narrow}
    return pd.DataFrame(bins), _make_rows(changes | {"narrow gain minus wide gain": compare_scores(narrow, wide)})


def _learn(features: np.ndarray, codes: np.ndarray) -> Any:
    n_classes = codes.shape[1] if codes.ndim == 2 else int(codes.max()) + 1
    weight, bias = fit_linear_head(features, codes, n_classes=n_classes, C=FIXED_C)
    return lambda images: images @ weight.T + bias


def _repeat(groups: Any, codes: np.ndarray) -> np.ndarray:
    """Name the group of each answer, or its image."""
    return np.repeat(np.arange(len(codes)) if groups is None else groups, codes[0].size)


def _make_rows(scores: Mapping[str, Score]) -> pd.DataFrame:
    return pd.DataFrame([{"name": name, **score._asdict()} for name, score in scores.items()])
