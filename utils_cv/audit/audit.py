"""One report on the images of a table: what cannot be opened, what is odd, what is there twice, and above all leaks.

Nothing is changed, moved or deleted; what follows from a report is one line: `drop_duplicates`, `add_groups`.
"""

import html
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from utils_cv.data.images import load_images
from utils_cv.evaluation.metrics import LABEL_SEPARATOR
from utils_cv.system.machine import count_cpus
from utils_cv.system.threads import map_in_threads

from .duplicates import (
    THUMBNAIL_PX,
    find_duplicates,
    find_similar_features,
    group_by_pairs,
    list_conflicts,
    list_duplicates,
    list_leaks,
)
from .image_quality import ImageFacts, measure_image

_IMAGES_PER_STEP = 1024
_KEEP_ORDER = ("test", "valid", "train")


@dataclass(frozen=True)
class AuditLimits:
    """From where on an image is worth a look.

    Of 480 rendered images and 398 photographs of insects none is beyond the limits of brightness, contrast, blur and
    side. Of 240 and 199 of them, blurred on purpose (standard deviation 4 of 256 pixels), the limit of blur finds at
    least 95 and 99 %.

    Attributes:
        min_brightness: Mean grey value, 0 black to 1 white, below which an image is dark.
        min_contrast: Standard deviation of the grey values, below which it is nearly empty.
        max_blur: See `utils_cv.audit.image_quality.measure_blur`.
        min_side_px: Shorter side below which it is tiny.
        max_megapixels: Width × height in 10**6 above which it is worth downsizing.
    """

    min_brightness: float = 0.1
    min_contrast: float = 0.02
    max_blur: float = 0.58
    min_side_px: int = 64
    max_megapixels: float = 4.0


@dataclass(frozen=True, repr=False, eq=False)  # tables compare cell by cell
class AuditReport:
    """What `audit_images` found; every table has the index of the audited table.

    Attributes:
        facts: One row an image: `image`, `path`, and the fields of `utils_cv.audit.image_quality.ImageFacts`.
        groups: Number of the group of each image; images that are the same, or nearly, share one.
        unreadable: `image` and `cause`.
        odd: `image` and `oddities`: extension, EXIF, transparency, CMYK, 16 bits, animation.
        large: `image`, `megapixels` and `size_mb`, worth downsizing.
        poor: `image` and `problem`: dark, nearly empty, blurred, tiny; with the measured values.
        duplicates: Every image whose twin comes before it in the table; see `audit.duplicates.list_duplicates`.
        leaks: Every image with a twin in an earlier split.
        conflicts: Every image with a twin of another label.
        classes: Images of each class in each split.
    """

    facts: pd.DataFrame
    groups: pd.Series
    unreadable: pd.DataFrame
    odd: pd.DataFrame
    large: pd.DataFrame
    poor: pd.DataFrame
    duplicates: pd.DataFrame
    leaks: pd.DataFrame
    conflicts: pd.DataFrame
    classes: pd.DataFrame

    @property
    def summary(self) -> pd.DataFrame:
        """One row a check, the gravest first: `check`, `n_images`, an `example`, and what to do."""
        rows = [(check, len(found), _give_example(found), advice) for check, found, advice in self._list_checks()]
        return pd.DataFrame(rows, columns=["check", "n_images", "example", "what to do"])

    def _list_checks(self) -> list[tuple[str, pd.DataFrame, str]]:
        is_exact = self.duplicates["kind"] == "exact"
        return [
            ("leak: twin in another split", self.leaks, "add_groups and split_grouped, or drop_duplicates"),
            ("conflict: twin of another label", self.conflicts, "look: one of the two labels is wrong"),
            ("unreadable", self.unreadable, "get them again; training skips them"),
            ("duplicate, the same file", self.duplicates[is_exact], "drop_duplicates"),
            ("duplicate, nearly the same", self.duplicates[~is_exact], "drop_duplicates, or split_grouped"),
            ("poor: dark, empty, blurred, tiny", self.poor, "look: can a person name the class?"),
            ("odd file", self.odd, "nothing; all are opened as they should be seen"),
            ("large", self.large, "downsize_images makes loading faster"),
        ]

    def describe_image(self, image: str) -> str:
        """Say what the report holds on one image.

        Args:
            image: As in the column `image`.

        Returns:
            The findings, joined by `; `; empty where there are none.
        """
        found = [f"unreadable ({row.cause})" for row in _select(self.unreadable, image)]
        found += [f"odd ({row.oddities})" for row in _select(self.odd, image)]
        found += [f"large ({row.megapixels:.1f} megapixels)" for row in _select(self.large, image)]
        found += [f"poor ({row.problem})" for row in _select(self.poor, image)]
        found += [f"leak (twin in {row.twin_split}: {row.twin})" for row in _select(self.leaks, image)]
        for row in _select(self.conflicts, image) + _select(
            self.conflicts, image, "twin"
        ):  # either may be the wrong one
            found.append(f"conflict ({row.image}: {row.label}, {row.twin}: {row.twin_label})")
        return "; ".join(found)

    def __str__(self) -> str:
        summary = self.summary
        lines = [
            f"  {row.n_images:6d}  {row.check}{f', e.g. {row.example}' * bool(row.example)}"
            for row in summary.itertuples()
        ]
        return "\n".join([self._make_heading(), *lines, *self._describe_balance()])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        balance = "".join(f"<p>{html.escape(line)}</p>" for line in self._describe_balance())
        return f"<p><b>{html.escape(self._make_heading())}</b></p>{self.summary.to_html(index=False)}{balance}"

    def _make_heading(self) -> str:
        opened = self.facts[self.facts["cause"] == ""]
        size = f", {opened['megapixels'].median():.2g} megapixels (median)" if len(opened) else ""
        return f"Audit of {len(self.facts)} images of {len(self.classes)} classes{size}"

    def _describe_balance(self) -> list[str]:
        counts = self.classes.sum(axis=1)
        if counts.min() == counts.max():
            return [f"Every class has {counts.max()} images."]
        return [
            f"Largest class: {counts.idxmax()} with {counts.max()} images; smallest: {counts.idxmin()} with "
            f"{counts.min()}, {counts.min() / counts.max():.0%} of it."
        ]


def _give_example(found: pd.DataFrame) -> str:
    if found.empty:
        return ""
    row = found.iloc[0]
    if "twin" in found:
        return f"{row['image']} = {row['twin']}"
    details = [str(row[name]) for name in ("cause", "oddities", "problem") if name in found]
    return f"{row['image']} ({details[0]})" if details else str(row["image"])


def _select(found: pd.DataFrame, image: str, column: str = "image") -> list:
    return list(found[found[column] == image].itertuples())


def audit_images(
    table: pd.DataFrame,
    *,
    backbone: str | None = None,
    limits: AuditLimits | None = None,
    n_threads: int | None = None,
    show_progress: bool = True,
) -> AuditReport:
    """Open every image of a table once and report what deserves a look. Nothing is changed.

    Each file is read once, by threads; kept of it are 1 kB of pixels and its facts, so memory grows by some 4 MB
    for 1,000 images (135 MB of its own at 20,000). CPU time grows in proportion: 4.9 s for 5,000 small files, 18 s for
    20,000 (AMD EPYC; benchmarks/audit_scale.py).

    Recall, measured with one planted copy each of 200 rendered images and of 200 photographs of insects: 100 % of both
    (95 % interval from 98 %) for exact copies, re-encoded (JPEG quality 50), half the size, cropped by 5 % of width and
    height, mirrored, mirrored and cropped by 5 %; 100 and 99.5 % for 10 % brighter; 93 and 99 % for 25 % brighter; 98.5
    and 89 % for cropped by 10 %. No false alarm in these 18 runs of 79,800 pairs each; with all 480 rendered
    images at most 3 of 460,000 pairs. Repeat it with benchmarks/audit_recall.py.

    Args:
        table: An image table: `path`, `label`, and perhaps `image` and `split`.
        backbone: A name that `models.backbones.load_backbone` takes: pairs with similar features are then compared
            as well. Needs torch, and 10 kB of memory an image. Default: only fingerprints are compared.
        limits: From where on an image is dark, empty, blurred, tiny or large; see `AuditLimits`.
        n_threads: Files worked on at a time. Default: one for each processor this process may use.
        show_progress: Show a progress bar.

    Returns:
        The report.

    Raises:
        ValueError: The table has no `path` or no `label`, is empty, or lists a file twice.

    Example:
        >>> report = audit_images(table)  # doctest: +SKIP
        >>> report.leaks  # doctest: +SKIP
    """
    table, limits = _check_table(table), limits or AuditLimits()
    n_threads = n_threads or count_cpus()
    measured, thumbnails = _measure_all(list(table["path"]), n_threads, show_progress)
    facts = pd.DataFrame(measured, columns=list(ImageFacts._fields), index=table.index)
    facts.insert(0, "image", table["image"])
    facts.insert(1, "path", table["path"])
    is_open = facts["cause"] == ""
    hashes = facts["sha256"].where(is_open, "").to_numpy(str)
    candidates = None if backbone is None else _propose_pairs(table["path"][is_open], backbone, show_progress)
    if candidates is not None:
        candidates = np.flatnonzero(is_open)[candidates]
    _, groups = find_duplicates(hashes, thumbnails, candidates)
    opened = facts[is_open]
    return AuditReport(
        facts=facts,
        groups=pd.Series(groups, index=table.index, name="group"),
        unreadable=facts.loc[~is_open, ["image", "cause"]],
        odd=opened.loc[opened["oddities"] != "", ["image", "oddities"]],
        large=opened.loc[opened["megapixels"] > limits.max_megapixels, ["image", "megapixels", "size_mb"]],
        poor=_list_poor(opened, limits),
        duplicates=list_duplicates(table, groups, hashes, thumbnails),
        leaks=list_leaks(table, groups, hashes, thumbnails),
        conflicts=list_conflicts(table, groups, hashes, thumbnails),
        classes=_count_classes(table),
    )


def drop_duplicates(table: pd.DataFrame, report: AuditReport, *, drop_conflicts: bool = True) -> pd.DataFrame:
    """Keep one image of each group of the same or nearly the same image; files stay where they are.

    Kept is the first in the test split, else in valid, else in train, so that a test set stays as it is.

    Args:
        table: The audited table, or rows of it.
        report: From `audit_images`.
        drop_conflicts: Keep none of a group with two labels, because one of them is wrong. False keeps the first.

    Returns:
        A new table, the kept rows in their old order.

    Example:
        >>> table = drop_duplicates(table, audit_images(table))  # doctest: +SKIP
    """
    groups = _look_up_groups(table, report)
    split = table["split"] if "split" in table else pd.Series("", index=table.index)
    rank = split.map({name: i for i, name in enumerate(_KEEP_ORDER)}).fillna(len(_KEEP_ORDER)).to_numpy()
    order = np.argsort(rank, kind="stable")
    is_first = np.zeros(len(table), bool)
    is_first[order[~pd.Series(groups[order]).duplicated().to_numpy()]] = True
    if drop_conflicts:
        n_labels = table["label"].groupby(groups).transform("nunique").to_numpy()
        is_first &= n_labels == 1
    return table[is_first].reset_index(drop=True)


def add_groups(table: pd.DataFrame, report: AuditReport, *, group: str = "group") -> pd.DataFrame:
    """Add a column that `utils_cv.data.splits.split_grouped` keeps together: images that are the same, or nearly.

    Args:
        table: The audited table, or rows of it.
        report: From `audit_images`.
        group: Name of the column. Where it exists (scene, patient), its groups are joined with those found.

    Returns:
        A new table with numbers in that column.

    Example:
        >>> table = split_grouped(add_groups(table, audit_images(table)))  # doctest: +SKIP
    """
    found = _look_up_groups(table, report)
    links = [_link_equal(found)]
    if group in table:
        links.append(_link_equal(pd.factorize(table[group], use_na_sentinel=True)[0]))
    return table.assign(**{group: group_by_pairs(np.concatenate(links), len(table))})


def _link_equal(codes: np.ndarray) -> np.ndarray:
    """Pair each position with the first of its code; a negative code is no group."""
    first = pd.Series(np.arange(len(codes))).groupby(codes).transform("min").to_numpy()
    pairs = np.stack([first, np.arange(len(codes))], axis=1)
    return pairs[(codes >= 0) & (pairs[:, 0] != pairs[:, 1])]


def _look_up_groups(table: pd.DataFrame, report: AuditReport) -> np.ndarray:
    by_path = pd.Series(report.groups.to_numpy(), index=report.facts["path"].astype(str))
    groups = by_path.reindex(table["path"].astype(str))
    if groups.isna().any():
        missing = groups.index[groups.isna()]
        raise ValueError(
            f"{len(missing)} of {len(table)} images are not in the report, the first {missing[0]}. Audit this table."
        )
    return groups.to_numpy(np.int64)


def _check_table(table: pd.DataFrame) -> pd.DataFrame:
    missing = [column for column in ("path", "label") if column not in table]
    if missing or table.empty:
        raise ValueError(
            f"Expected an image table with 'path' and 'label', got {len(table)} rows of "
            f"{list(table.columns)}. Load one with utils_cv.data.image_table.load_image_table."
        )
    paths = table["path"].astype(str)
    if paths.duplicated().any():
        raise ValueError(f"{paths[paths.duplicated()].iloc[0]} is listed twice; keep one row an image.")
    return table.assign(path=paths, image=table.get("image", paths))


def _measure_all(paths: list[str], n_threads: int, show_progress: bool) -> tuple[list[ImageFacts], np.ndarray]:
    thumbnails = np.empty((len(paths), THUMBNAIL_PX, THUMBNAIL_PX), np.uint8)
    measured = []
    with warnings.catch_warnings():  # Pillow warns of damage that the report lists, without naming the file
        warnings.filterwarnings("ignore", module="PIL")
        results = map_in_threads(
            measure_image, paths, n_threads=n_threads, description="auditing images", show_progress=show_progress
        )
        for row, (facts, thumbnail) in enumerate(results):
            thumbnails[row] = thumbnail
            measured.append(facts)
    return measured, thumbnails


def _propose_pairs(paths: pd.Series, backbone: str, show_progress: bool) -> np.ndarray:
    """Pairs (n_pairs, 2) of positions in `paths` whose features are similar; some 1,000 images in memory at a time."""
    from utils_cv.models.backbones import describe_backbone
    from utils_cv.models.features import compute_features

    size_px = describe_backbone(backbone).im_size_px
    features, rows = [], []
    for begin in range(0, len(paths), _IMAGES_PER_STEP):
        loaded = load_images(list(paths.iloc[begin : begin + _IMAGES_PER_STEP]), size_px)
        features.append(compute_features(loaded.pixels, backbone=backbone, show_progress=show_progress))
        rows.append(begin + loaded.rows)
    if not features:
        return np.empty((0, 2), np.int64)
    pairs, _ = find_similar_features(np.concatenate(features))
    return np.concatenate(rows)[pairs]


def _list_poor(facts: pd.DataFrame, limits: AuditLimits) -> pd.DataFrame:
    checks = {
        "dark": facts["brightness"] < limits.min_brightness,
        "nearly empty": facts["contrast"] < limits.min_contrast,
        "blurred": facts["blur"] > limits.max_blur,
        "tiny": facts[["width_px", "height_px"]].min(axis=1) < limits.min_side_px,
    }
    problems = [
        ", ".join(name for name, found in zip(checks, row, strict=True) if found)
        for row in zip(*checks.values(), strict=True)
    ]
    poor = facts[["image", "brightness", "contrast", "blur", "width_px", "height_px"]].copy()
    poor.insert(1, "problem", pd.Series(problems, index=facts.index, dtype=object))
    return poor[poor["problem"] != ""]


def _count_classes(table: pd.DataFrame) -> pd.DataFrame:
    split = table["split"].fillna("") if "split" in table else pd.Series("", index=table.index)
    pairs = pd.DataFrame({"label": table["label"].fillna("").str.split(LABEL_SEPARATOR, regex=False), "split": split})
    counts = pairs.explode("label").groupby(["label", "split"]).size().unstack(fill_value=0)
    return counts.reindex(columns=sorted(counts.columns, key=lambda name: {"train": 0, "valid": 1}.get(name, 2)))
