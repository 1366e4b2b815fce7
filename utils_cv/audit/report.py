"""One report on the images of a table: what cannot be opened, is of low quality, is there twice, or leaks."""

import functools
import html
import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.data.images import find_value_range
from utils_cv.data.labels import LABEL_SEPARATOR, SPLIT_NAMES, fold_name, name_images, normalize_name
from utils_cv.system.machine import count_cpus
from utils_cv.system.threads import N_MANY, announce, map_in_shards, map_in_threads

from .duplicates import find_duplicates, group_by_pairs, list_pairs
from .image_quality import ImageFacts, measure_image

_SHARD_SIZE = 128  # files that are measured at a time
_SPLIT_ORDER = {name: i for i, name in enumerate(SPLIT_NAMES)}


@dataclass(frozen=True)
class AuditLimits:
    """From where on an image is listed as of low quality, or as large.

    Of 480 rendered images and 398 photographs of insects none is of low quality by these limits. Of 240 and 199 of
    them, blurred on purpose (standard deviation 4 of 256 pixels), the limit of blur finds at least 95 and 99 %.
    """

    min_brightness: float = 0.1  # mean gray value, 0 black to 1 white, below which an image is dark
    min_contrast: float = 0.02  # standard deviation of the gray values, below which it is nearly empty
    max_blur: float = 0.58  # from 0 sharp to 1 blurred, see `utils_cv.audit.image_quality.ImageFacts`
    min_side_px: int = 64  # shorter side below which it is tiny
    max_megapixels: float = 4.0  # width × height in 10**6 above which it is worth downsizing


@dataclass(frozen=True, repr=False, eq=False)  # tables compare cell by cell
class AuditReport:
    """What `audit_images` found; every table has the index of the audited table.

    `duplicates`, `leaks` and `label_conflicts` have the columns `image`, `split`, `label`, `duplicate`,
    `duplicate_split`, `duplicate_label`, `kind` ("exact" or "near") and `overlap`, how well the two fit, at most 1.
    """

    facts: pd.DataFrame  # per image: `image`, `path`, and the fields of `utils_cv.audit.image_quality.ImageFacts`
    groups: pd.Series  # number of the group of each image; exact and near duplicates share one
    unreadable: pd.DataFrame  # `image` and `cause`
    file_issues: pd.DataFrame  # `image` and `file_issues`: extension, EXIF, transparency, CMYK, 16 bits, animation
    large: pd.DataFrame  # `image`, `megapixels` and `size_mb`, worth downsizing
    low_quality: pd.DataFrame  # `image` and `problem`: dark, nearly empty, blurred, tiny; with the measured values
    duplicates: pd.DataFrame  # every image with a duplicate earlier in the table
    leaks: pd.DataFrame  # every image with a duplicate in an earlier split (train, valid, test)
    label_conflicts: pd.DataFrame  # every image with a duplicate of another label
    classes: pd.DataFrame  # images of each class in each split
    value_range: int  # the value of 16-bit files that becomes white, see `utils_cv.data.images.find_value_range`
    left_out: str  # how many files were left out when the table was loaded, and why

    @property
    def summary(self) -> pd.DataFrame:
        """One row per check, the gravest first: `check`, `n_images`, an `example`, and `advice`."""
        is_exact = self.duplicates["kind"] == "exact"
        checks = [
            ("leak: duplicate in another split", self.leaks, "add_groups and split again, or drop_duplicates"),
            ("label conflict: duplicate with another label", self.label_conflicts, "look: one of the labels is wrong"),
            ("unreadable", self.unreadable, "get them again; training skips them"),
            ("exact duplicate", self.duplicates[is_exact], "drop_duplicates"),
            ("near duplicate", self.duplicates[~is_exact], "drop_duplicates, or add_groups and split again"),
            ("low quality: dark, empty, blurred, tiny", self.low_quality, "look: can a person name the class?"),
            ("file issue", self.file_issues, "look at a few: are they shown as expected?"),
            ("large", self.large, "downsize_images makes loading faster"),
        ]
        too_large = self.unreadable[self.unreadable["cause"].str.startswith("too many pixels")]
        if len(too_large):
            checks.append(
                (
                    "of the unreadable: beyond the limit of pixels",
                    too_large,
                    "downsize, or raise the limit that its cause names",
                )
            )
        deep = self.facts.loc[self.facts["max_value"] > 0, ["image", "file_issues"]]
        if len(deep):
            share = self.facts["max_value"].max() / self.value_range
            advice = f"all are opened with value_range={self.value_range}, of which the set uses {share:.0%}"
            checks.append(("16-bit files and the share of their range", deep, advice))
        rows = [(check, len(found), _give_example(found), advice) for check, found, advice in checks]
        return pd.DataFrame(rows, columns=["check", "n_images", "example", "advice"])

    def describe_image(self, image: str) -> str:
        """Say what the report holds on one image (as in the column `image`), joined by `; `; empty for nothing."""
        image = normalize_name(image)
        found = [f"unreadable ({row.cause})" for row in _select(self.unreadable, image)]
        found += [f"file issue ({row.file_issues})" for row in _select(self.file_issues, image)]
        found += [f"large ({row.megapixels:.1f} megapixels)" for row in _select(self.large, image)]
        found += [f"low quality ({row.problem})" for row in _select(self.low_quality, image)]
        found += [f"leak (duplicate in {row.duplicate_split}: {row.duplicate})" for row in _select(self.leaks, image)]
        conflicts = _select(self.label_conflicts, image) + _select(self.label_conflicts, image, "duplicate")
        for row in conflicts:  # either may be the wrong one
            found.append(f"label conflict ({row.image}: {row.label}, {row.duplicate}: {row.duplicate_label})")
        return "; ".join(found)

    def __repr__(self) -> str:
        lines = [
            f"  {row.n_images:6d}  {row.check}{f', e.g. {row.example}' * bool(row.example)}"
            for row in self.summary.itertuples()
        ]
        return "\n".join([self._make_heading(), *lines, *self._list_remarks()])

    def _repr_html_(self) -> str:
        left = ' style="text-align: left"'  # JupyterLab sets all cells of a table to the right
        table = self.summary.to_html(index=False).replace("<td>", f"<td{left}>").replace("<th>", f"<th{left}>")
        heading, remarks = html.escape(self._make_heading()), html.escape(" ".join(self._list_remarks()))
        return f"<p><b>{heading}</b></p>{table}<p>{remarks}</p>"

    def _make_heading(self) -> str:
        megapixels = self.facts.loc[self.facts["cause"] == "", "megapixels"]
        size = f", {megapixels.median():.2g} megapixels (median)" if len(megapixels) else ""
        return f"Audit of {len(self.facts)} images of {len(self.classes)} classes{size}"

    def _list_remarks(self) -> list[str]:
        names = pd.Series(self.classes.index, dtype=object)
        alike = [", ".join(map(repr, group)) for _, group in names.groupby(names.map(fold_name)) if len(group) > 1]
        remarks = [f"Classes that differ only by case or accents: {names}." for names in alike[:5]]
        if self.left_out:
            remarks.append(f"When the table was loaded: {self.left_out}")
        return [self._describe_balance(), *remarks]

    def _describe_balance(self) -> str:
        counts = self.classes.sum(axis=1)
        if counts.min() == counts.max():
            return f"Every class has {counts.max()} images."
        return (
            f"Largest class: {counts.idxmax()} with {counts.max()} images; smallest: {counts.idxmin()} with "
            f"{counts.min()}, {counts.min() / counts.max():.0%} of it."
        )


def _give_example(found: pd.DataFrame) -> str:
    if found.empty:
        return ""
    row = found.iloc[0]
    if "duplicate" in found:
        return f"{row['image']} = {row['duplicate']}"
    details = [f" ({row[name]})" for name in ("cause", "file_issues", "problem") if name in found]
    return row["image"] + "".join(details)


def _select(found: pd.DataFrame, image: str, column: str = "image") -> list:
    return list(found[found[column] == image].itertuples())


def audit_images(table: pd.DataFrame, *, limits: AuditLimits | None = None, show_progress: bool = True) -> AuditReport:
    """Open every image of a table once and report what deserves a look. Nothing is changed.

    Memory grows by about 10 MB per 1,000 images, time in proportion to their number. Shards of 128 files run through
    joblib: `joblib.parallel_config` around the call sends them to processes, or to a Dask or Ray cluster.

    Of copies of 124 photographs (exact, re-encoded, half the size, flipped, turned by 25, 90 or 180 degrees,
    squeezed, up to 25 % brighter, cropped by up to 10 %) at least 96 % were found, of those cropped to 87.5 % 91 %,
    without a false alarm. In sets of 30 images or more that all look alike, such as surfaces, duplicates must fit
    better, and fewer are found; see benchmarks/README.md.

    Args:
        table: An image table: `path`, `label`, and perhaps `image` and `split`.
        limits: From where on an image is dark, empty, blurred, tiny or large.
        show_progress: Show a progress bar; and before many images one line: how long, how much memory.

    Returns:
        The report.

    Raises:
        ValueError: The table has no `path` or no `label`, is empty, or lists a file twice.

    Example:
        >>> audit_images(table).leaks[["image", "duplicate", "kind"]]  # doctest: +SKIP
                       image          duplicate   kind
        12  test/can/012.jpg  train/can/003.jpg  exact
    """
    table, limits = _check_table(table), limits or AuditLimits()
    value_range = find_value_range(table["path"])
    facts, thumbnails = _measure_images(table, value_range, show_progress)
    is_open = facts["cause"] == ""
    opened = facts[is_open]
    hashes = facts["sha256"].where(is_open, "").to_numpy(str)
    aspects = (opened["width_px"] / opened["height_px"]).reindex(facts.index, fill_value=1.0).to_numpy()
    images = (hashes, thumbnails, aspects)
    groups = find_duplicates(*images)
    position = np.arange(len(table))
    rank = table["split"].map(_SPLIT_ORDER).fillna(-1).to_numpy(np.int64)
    in_split = np.where(rank >= 0, groups, groups.max() + 1 + position)  # without a split: alone
    label = table["label"].fillna("").astype(str)
    is_other_label = (label != label.groupby(groups).transform("first")).to_numpy()
    return AuditReport(
        facts=facts,
        groups=pd.Series(groups, index=table.index, name="group"),
        unreadable=facts.loc[~is_open, ["image", "cause"]],
        file_issues=opened.loc[opened["file_issues"] != "", ["image", "file_issues"]],
        large=opened.loc[opened["megapixels"] > limits.max_megapixels, ["image", "megapixels", "size_mb"]],
        low_quality=_list_low_quality(opened, limits),
        duplicates=list_pairs(table, groups, position, *images),
        leaks=list_pairs(table, in_split, rank, *images),
        label_conflicts=list_pairs(table, groups, is_other_label, *images),
        classes=_count_classes(table),
        value_range=value_range,
        left_out=table.attrs.get("left_out", ""),
    )


def drop_duplicates(table: pd.DataFrame, report: AuditReport) -> pd.DataFrame:
    """Keep one image of each group of exact and near duplicates; files stay where they are.

    Kept is the first in the test split, else in valid, else in train, so that a test set stays as it is. Of a group
    with two labels none is kept, because one of them is wrong.

    Args:
        table: The audited table, or rows of it.
        report: From `audit_images`.

    Returns:
        A new table, the kept rows in their old order.
    """
    groups = pd.Series(_look_up_groups(table, report))
    split = table["split"] if "split" in table else pd.Series("", index=table.index)
    last_split_first = np.argsort(-split.map(_SPLIT_ORDER).fillna(-1).to_numpy(), kind="stable")
    is_kept = ~groups.iloc[last_split_first].duplicated().sort_index()
    is_kept &= table["label"].reset_index(drop=True).groupby(groups).transform("nunique") == 1
    return table[is_kept.to_numpy()].reset_index(drop=True)


def add_groups(table: pd.DataFrame, report: AuditReport) -> pd.DataFrame:
    """Add a column `group` that splits keep together: exact and near duplicates.

    Args:
        table: The audited table, or rows of it. Where it has a column `group` (scene, patient), its groups are joined
            with those found.
        report: From `audit_images`.

    Returns:
        A new table. A group has its old name, or else that of its first image, which new images seldom change.

    Example:
        >>> grouped = add_groups(table, audit_images(table))  # doctest: +SKIP
        >>> table = complete_splits(grouped.assign(split=""))  # doctest: +SKIP
    """
    found, given = _look_up_groups(table, report), table.get("group", pd.Series("", index=table.index))
    given = given.fillna("").astype(str).reset_index(drop=True).replace("", None)
    pairs = []
    for groups in (pd.Series(found), given.dropna()):
        first = groups.index.to_series().groupby(groups).transform("min")
        pairs.append(np.stack([first, groups.index], axis=1))
    joined = group_by_pairs(np.concatenate(pairs), len(table))
    names = table["image" if "image" in table else "path"].reset_index(drop=True)
    first_name = given.groupby(joined).min().fillna(names.groupby(joined).min())
    return table.assign(group=first_name.loc[joined].to_numpy())


def _look_up_groups(table: pd.DataFrame, report: AuditReport) -> np.ndarray:
    by_path = pd.Series(report.groups.to_numpy(), index=report.facts["path"].astype(str))
    groups = by_path.reindex(table["path"].astype(str))
    missing = groups.index[groups.isna()]
    if len(missing):
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
    if not paths.is_unique:
        raise ValueError(f"{paths[paths.duplicated()].iloc[0]} is listed twice; keep one row per image.")
    split = table["split"].fillna("") if "split" in table else ""
    images = name_images(table.get("image", paths).astype(str))  # can be printed
    return table.assign(path=paths, image=images, split=split)


def _measure_images(table: pd.DataFrame, value_range: int, show_progress: bool) -> tuple[pd.DataFrame, np.ndarray]:
    paths, measure = list(table["path"]), functools.partial(_measure_shard, value_range=value_range)
    if show_progress and len(paths) >= N_MANY:
        needs = f"{len(paths) / 100:,.0f} MB of memory. More machines by joblib.parallel_config take less."
        announce(f"Audit of {len(paths):,} images", paths, measure, needs)
    bar: dict[str, Any] = {"description": "auditing images", "show_progress": show_progress}
    results = itertools.chain.from_iterable(map_in_shards(measure, paths, shard_size=_SHARD_SIZE, **bar))
    measured, thumbnails = zip(*results, strict=True)
    facts = pd.DataFrame(measured, columns=list(ImageFacts._fields), index=table.index)
    return pd.concat([table[["image", "path"]], facts], axis=1), np.stack(thumbnails)


def _measure_shard(paths: Sequence[str], value_range: int) -> list[tuple[ImageFacts, np.ndarray]]:
    with warnings.catch_warnings():  # Pillow warns of damage that the report lists, without naming the file
        warnings.filterwarnings("ignore", module="PIL")
        measure = functools.partial(measure_image, value_range=value_range)
        return list(map_in_threads(measure, paths, n_threads=count_cpus()))


def _list_low_quality(facts: pd.DataFrame, limits: AuditLimits) -> pd.DataFrame:
    checks = {
        "dark": facts["brightness"] < limits.min_brightness,
        "nearly empty": facts["contrast"] < limits.min_contrast,
        "blurred": facts["blur"] > limits.max_blur,
        "tiny": facts[["width_px", "height_px"]].min(axis=1) < limits.min_side_px,
    }
    problem = pd.Series("", index=facts.index)
    for name, is_found in checks.items():
        problem += np.where(is_found, f", {name}", "")
    low = facts[["image", "brightness", "contrast", "blur", "width_px", "height_px"]].copy()
    low.insert(1, "problem", problem.str.removeprefix(", "))
    return low[low["problem"] != ""]


def _count_classes(table: pd.DataFrame) -> pd.DataFrame:
    labels = table["label"].fillna("").str.split(LABEL_SEPARATOR, regex=False)
    counts = table.assign(label=labels).explode("label").groupby(["label", "split"]).size().unstack(fill_value=0)
    return counts[sorted(counts, key=lambda name: _SPLIT_ORDER.get(name, 2))]
