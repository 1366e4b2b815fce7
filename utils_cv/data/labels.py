"""Labels and other names in an image table: how they are compared, joined, split and encoded.

Names are compared in Unicode NFC, without blanks around them. Names that differ by case or accents are different; where
that looks like a slip, an error asks "did you mean" and the audit lists them. A set is multi-label if a label holds
`|`: then an empty label means none of the classes. In all other sets an empty label is missing, which is an error.
Only an empty one is: `NULL`, `NaN`, `None` and `NA` are names of classes, as they are of folders.
"""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from .image_headers import make_printable

LABEL_SEPARATOR = "|"
# Signs without width that copied text may begin or end with; alone they name nothing.
_INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\u2800\u3164\ufeff"
SPLIT_NAMES = ("train", "valid", "test")
_WORDS_OF_SPLIT = {
    "train": "train training trn tr entrenamiento treino entrainement 训练 訓練",
    "valid": "val valid validation validate dev development eval evaluation va 验证 検証",
    "test": "test testing tst te holdout heldout prueba teste 测试 テスト",
}
_SPLIT_OF_WORD = {word: split for split, words in _WORDS_OF_SPLIT.items() for word in words.split(" ")}
SHORT_SPLIT_WORDS = ("tr", "va", "te")  # are names of countries and languages, too
# What people write beside these words: seg_train, test_set, TrainImages, val2017.
_FILLERS = {
    *("data", "split", "part", "sub", "seg", "folder", "public", "private", "v", "images", "image", "imgs", "img"),
    *("photos", "pictures", "pics", "files", "jpg", "png"),
}


def normalize_name(name: str) -> str:
    """Make a name comparable and printable: NFC, nothing invisible around it, bytes that are not UTF-8 escaped."""
    return unicodedata.normalize("NFC", make_printable(name)).strip().strip(_INVISIBLE).strip()


def name_images(names: Iterable[str]) -> list[str]:
    """Names of images that can be compared and printed; where two would be the same, they stay as they are written."""
    written = list(names)
    counts = Counter(normalize_name(name) for name in written)
    return [made if counts[made := normalize_name(name)] == 1 else make_printable(name) for name in written]


def find_split_name(name: str) -> str:
    """Find the split that a folder or a cell means, such as "seg_test" or "val2017", or "" if it means none."""
    name = re.sub("(h[eo]ld)[ _-]out", r"\1out", name, flags=re.IGNORECASE)
    for written in (name, name.lower()):  # TrainImages, then tEst
        words = [word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+|[^\\W\\d_a-zA-Z]+", written)]
        words = [word.removesuffix("set").removesuffix("集") for word in words]
        splits = [_SPLIT_OF_WORD[word] for word in words if word in _SPLIT_OF_WORD]
        if len(splits) == 1 and all(word in {*_SPLIT_OF_WORD, *_FILLERS, ""} for word in words):
            return splits[0]
    return ""


def split_labels(labels: str) -> list[str]:
    """Split the joined labels of an image; blanks around names do not count."""
    return [label.strip() for label in labels.split(LABEL_SEPARATOR) if label.strip()]


def list_class_names(table: pd.DataFrame) -> list[str]:
    """List the classes of an image table, sorted."""
    return sorted({label for labels in table["label"].unique() for label in split_labels(labels)})


def is_multilabel(table: pd.DataFrame) -> bool:
    """Tell whether a table is one of several labels per image: a label holds `|`, or the whole set was loaded so."""
    return bool(table.attrs.get("is_multilabel")) or bool(
        table["label"].str.contains(LABEL_SEPARATOR, regex=False).any()
    )


def encode_labels(labels: Iterable[str], class_names: Sequence[str], *, multilabel: bool = False) -> np.ndarray:
    """Turn labels into what a loss takes: int64 codes (n,), or float32 zeros and ones (n, n_classes) if multi-label.

    A label that is not a class is a ValueError.

    Example:
        >>> encode_labels(["carton", "can"], ["can", "carton"])
        array([1, 0])
        >>> encode_labels(["carton|can", ""], ["can", "carton"], multilabel=True).tolist()
        [[1.0, 1.0], [0.0, 0.0]]
    """
    # By hand: scikit-learn's MultiLabelBinarizer ignores unknown labels, and importing it takes a second.
    code_of = {name: code for code, name in enumerate(class_names)}
    names = [split_labels(label) if multilabel else [label] for label in labels]
    unknown = sorted({name for row in names for name in row} - set(code_of))
    if unknown:
        hint = suggest_name(unknown[0], code_of)
        raise ValueError(f"Got labels {unknown[:5]}, expected the class names {list(code_of)[:20]}.{hint}")
    if not multilabel:
        return np.array([code_of[name] for (name,) in names], dtype=np.int64)
    is_of_class = np.zeros((len(names), len(code_of)), dtype=np.float32)
    for row, row_names in zip(is_of_class, names, strict=True):
        row[[code_of[name] for name in row_names]] = 1
    return is_of_class


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Ask whether one of the known names is meant, or return ""; case counts less than letters."""
    by_lower = {fold_name(other): other for other in known}
    close = difflib.get_close_matches(fold_name(name), by_lower, n=1)
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""


def fold_name(name: str) -> str:
    """Drop case and accents of a name, which people confuse."""
    letters = unicodedata.normalize("NFD", name.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def check_labels(table: pd.DataFrame, *, source: str = "The image table") -> None:
    """Raise a ValueError that names the rows whose label is missing or is not text."""
    images = table["image" if "image" in table else "path"]
    is_text = pd.Series([isinstance(label, str) for label in table["label"]], table.index)
    is_missing = ~is_text & table["label"].isna()
    if not (is_text | is_missing).all():
        kind = type(table.loc[~(is_text | is_missing), "label"].iloc[0]).__name__
        raise ValueError(f"{source}: labels are text, got {kind}. Use table.assign(label=table['label'].astype(str)).")
    if not is_multilabel(table[is_text]):
        is_missing |= table["label"].str.strip() == ""
    if is_missing.any():
        is_line = table.index.name == "line"  # of a file; rows are counted
        where = [f"line {line}" for line in table.index] if is_line else [f"row {i + 1}" for i in range(len(table))]
        rows = [f"{images.iloc[row]} ({where[row]})" for row in np.flatnonzero(is_missing)]
        more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
        raise ValueError(
            f"{source} has no label for {len(rows)} of {len(table)} images: {', '.join(rows[:3])}{more}. Fill it in or "
            "leave the row out. Several labels are joined by '|'; in such a set an empty one means none of the classes."
        )
