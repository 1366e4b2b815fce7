"""What an audit found: tables, a summary for people, and what it says about one image."""

import html
from dataclasses import dataclass

import pandas as pd


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
        duplicates: Every image whose twin comes before it in the table; see `utils_cv.audit.twins.list_duplicates`.
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
