"""Image tables from CSV files as spreadsheets and scripts write them, and back into one."""

import ast
import contextlib
import csv
import io
import os
import posixpath
import re
import urllib.parse
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ..system.files import write_atomic
from .choices import decide_labels, is_choice_file
from .csv_text import read_text
from .image_files import is_image_name, list_image_files
from .image_headers import make_printable
from .images import find_path
from .labels import (
    LABEL_SEPARATOR,
    SPLIT_NAMES,
    check_labels,
    find_split_name,
    fold_name,
    is_multilabel,
    list_class_names,
    name_images,
    normalize_name,
    split_labels,
    suggest_name,
)

# What a CSV file may call each column, the likeliest first; case, blanks and "-" do not count.
_COLUMNS = {
    "image": "image path file filename file_name filepath file_path image_path image_file image_name image_id img "
    "img_path img_name images filenames paths files id_code id name",
    "label": "label labels class classes class_name class_label label_name category target targets tags tag choice y",
    "split": "split subset set data_set partition usage is_valid",
    "group": "group group_id groups",
}
_ALSO_CLASSES = ("tag", "tags", "choice", "y", "group", "groups")  # of these names, too, a class may have one
# As Python and JSON write lists; parentheses, which a name may have, only around quotes.
_LIST = r"\s*(\[.*\]|\(\s*['\"].*\))\s*"
_EMPTY = ("", "nan", "na", "n/a", "none", "null", "-")  # in columns whose empty cells mean something
_YES, _NO = ("1", "1.0", "true", "yes", "y", "x"), ("0", "0.0", "false", "no", "n", *_EMPTY)


def load_csv_table(csv_path: Path) -> tuple[pd.DataFrame, Counter[str]]:
    """Load the images that a CSV file lists; count what it lists in vain, and the images that it does not list."""
    raw, undecided = decide_labels(csv_path) if is_choice_file(csv_path) else (read_cells(csv_path), Counter[str]())
    marks = raw.apply(lambda cells: cells.str.strip().str.lower())
    is_mark = marks.apply(lambda cells: cells.isin(_YES + _NO).all() and not cells.isin(_EMPTY).all())
    columns = {kind: _find_columns(raw, names) for kind, names in _COLUMNS.items()}
    columns["image"] = [name for name in columns["image"] if not is_mark[name]] or columns["image"]
    label, split, group = (next(iter(columns[kind]), "") for kind in ("label", "split", "group"))
    others = [name for name in raw if name not in (*columns["image"], label, split, group)]
    classes = [name for name in others if is_mark[name]]
    if alike := _find_classes_named_like_columns(csv_path, marks[[name for name in raw if is_mark[name]]], classes):
        classes, label, group = alike, "" if label in alike else label, "" if group in alike else group
    elif columns["image"] and not label and len(others) == 1:
        label = others[0]  # such as `breed`: nothing else is said of the images
    if label or len(classes) < 2:
        classes = []
    if raw.empty or not columns["image"] or not (label or classes):
        missing = " and ".join(kind for kind in ("image", "label") if not columns[kind])
        what = f"no column for {missing}" if missing else "no rows"
        raise ValueError(
            f"{csv_path} has {what}; it has columns {list(raw)[:20]}. Expected a first line of names, with ',', ';' or "
            "tabs between them, at least 'image' (path from the CSV's folder) and 'label' (several joined by '|'), or "
            "a column of 0 and 1 for each class."
        )
    image, images, paths = _find_files(csv_path, raw[columns["image"]])
    is_declared, labels = _read_labels(raw, label, marks[classes])
    table = pd.DataFrame({"image": images, "path": paths, "label": labels})
    table["split"] = _read_splits(csv_path, raw[split]) if split else ""
    if group and not (is_alone := raw[group].str.strip().str.lower().isin(_EMPTY)).all():
        # Whole numbers become 1.0 when a cell of their column is empty: the group stays the same.
        table["group"] = np.where(is_alone, images, raw[group].str.replace(r"^\s*(\d+)\.0\s*$", r"\1", regex=True))
    known = {image, label, split, group, "path", *classes}
    table = table.set_axis(raw.index.rename("line"))
    table.attrs["is_multilabel"] = is_declared
    left_out = _count_missing(csv_path, table) + undecided
    check_labels(table, source=str(csv_path))
    is_there = table["path"] != ""
    _check_repeated(csv_path, table[is_there])
    is_again = table["path"].duplicated() & is_there
    without = [_find_file(csv_path.parent, name) for name in raw.attrs.get("undecided", ())]  # are counted already
    listed = [make_printable(path) for path in (*paths, *without) if path]
    left_out += _count_unlisted(csv_path, listed) + Counter({"rows that list an image again": int(is_again.sum())})
    is_kept = (is_there & ~is_again).to_numpy()
    table, facts = table[is_kept].reset_index(drop=True), raw[is_kept].drop(columns=[*known & set(raw)])
    if len(facts.columns):  # numbers become numbers; `image` may be a number beside `path`
        facts = facts.rename(columns={name: f"csv_{name}" for name in _COLUMNS})
        typed = pd.read_csv(io.StringIO(facts.to_csv(index=False)), low_memory=False, index_col=False)
        table = pd.concat([table, typed], axis=1)
    return table, left_out


def _find_classes_named_like_columns(csv_path: Path, marks: pd.DataFrame, classes: list[str]) -> list[str]:
    """All columns of marks where a class is called like a label or a group, and every row has one mark; else none."""
    names = [name for name in marks if name in classes or _simplify(name) in _ALSO_CLASSES]
    is_one, is_one_without = ((marks[columns].isin(_YES).sum(axis=1) == 1).all() for columns in (names, classes))
    if len(names) == len(classes) or is_one_without or not (classes or (is_one and len(names) > 1)):
        return []
    others = ", ".join(name for name in names if name not in classes)
    beside = f" as {', '.join(classes)} does" * bool(classes)
    words = "is taken as a class, too" if is_one else "is not taken as a class. If it is one, give it another name"
    warnings.warn(f"{csv_path}: {others} holds marks{beside}, and {words}.", stacklevel=4)
    return names if is_one else []


def _count_missing(csv_path: Path, table: pd.DataFrame) -> Counter[str]:
    """Count the rows whose image does not exist; an error where that is most, or all of a class."""
    is_missing = table["path"] == ""
    if not (n := int(is_missing.sum())):
        return Counter()
    missing = table[is_missing]
    first, line = missing["image"].iloc[0], missing.index[0]
    lost = sorted(set(list_class_names(table)) - set(list_class_names(table[~is_missing])))
    all_of = f", all of {lost[0]!r}" if lost else ""
    if n <= len(table) / 2 and not lost and "\n" not in first:
        return Counter({f"listed in {csv_path.name}, but not there, such as {first[:200]} in line {line}": n})
    quote = " Is a quote missing?" if "\n" in first else ""
    close = suggest_name(Path(first).name, [path.name for path in list_image_files(csv_path.parent)[:5000]])
    raise FileNotFoundError(
        f"{csv_path} lists {n} of {len(table)} images that do not exist{all_of}, the first {first[:200]!r} in line "
        f"{line}. Paths in the CSV count from its own folder.{close}{quote}"
    )


def save_image_table(table: pd.DataFrame, csv_path: str | Path, *, overwrite: bool = False) -> None:
    """Save an image table as a CSV file that `load_image_table` loads again as the same table, with its splits.

    Args:
        table: An image table. Its images stay where they are; the file names them from its own folder.
        csv_path: The file, best `labels.csv` in the folder of the images, which then loads by the name of the folder.
        overwrite: Replace the file if it exists.

    Raises:
        FileExistsError: The file exists.
        ValueError: The table has no images.
    """
    csv_path = Path(csv_path).expanduser().absolute()
    if table.empty:
        raise ValueError(
            f"Got a table without images to save as {csv_path}; expected one or more. Nothing was written."
        )
    if csv_path.exists() and not overwrite:
        raise FileExistsError(f"{csv_path} exists; give another name, or overwrite=True to replace it.")
    images = [Path(os.path.relpath(find_path(path), csv_path.parent)).as_posix() for path in table["path"]]
    saved = table.drop(columns="path").assign(image=name_images(images))
    if is_multilabel(table) and not table["label"].str.contains(LABEL_SEPARATOR, regex=False).any():
        saved["label"] += LABEL_SEPARATOR  # so that rows of a set with several labels say so
    is_like_list = saved["label"].str.fullmatch(_LIST, flags=re.DOTALL)
    saved["label"] = saved["label"].where(~is_like_list, saved["label"].map(split_labels).astype(str))
    with write_atomic(csv_path) as temporary_path:  # with ends of lines that quote a name which holds one of them
        saved.to_csv(temporary_path, index=False, encoding="utf-8", errors="backslashreplace", lineterminator="\r\n")


def read_cells(csv_path: Path) -> pd.DataFrame:
    """Read the cells as text, by the number of their line; blank lines and columns and an index are left out."""
    text = read_text(csv_path)
    lines = [re.sub('"[^"]*"', "", line) for line in text.splitlines()[:9]]
    first = next((line for line in lines if re.search("[,;\t]", line)), "")  # a title or a remark may come before
    separator = max(",;\t", key=first.count)
    if said := re.match('\\s*"?sep=(.)"?\\s*\n', text, re.IGNORECASE):  # spreadsheets write it
        separator, text = said[1], text[said.end() :]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=f'{separator} "' in text)
    try:
        numbered = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise ValueError(f"{csv_path}, line {reader.line_num}: {error}. Is a quote missing?") from error
    rows = {number: row for number, row in numbered if any(cell.strip() for cell in row)}
    if not rows:
        raise ValueError(f"{csv_path} is empty. Expected a first line of names (image,label) and a line per image.")
    starts = [number for number in sorted(rows)[:5] if _find_columns(rows[number], _COLUMNS["image"])]
    start = next((number for number in starts if len(rows[number]) > 1), min(rows))  # below a title or a remark
    header = [name.strip() for name in rows[start]]
    rows = {number: row for number, row in rows.items() if number > start}
    if rows and all(len(row) > len(header) and row[0].isdecimal() and row[-1].strip() for row in rows.values()):
        header = ["", *header]  # R names no index column
    for number, row in rows.items():
        if any(cell.strip() for cell in row[len(header) :]):
            raise ValueError(
                f"{csv_path}, line {number}: {len(row)} cells, but {len(header)} names in the first line: "
                f"{separator.join(row)!r}. Put a text that holds {separator!r} into double quotes."
            )
    cells = [row[: len(header)] + [""] * (len(header) - len(row)) for row in rows.values()]
    raw = pd.DataFrame(cells, index=list(rows), columns=range(len(header)), dtype=object)
    is_index = [bool(re.fullmatch(r"(unnamed: ?\d+)?", name.lower())) for name in header]
    is_kept = [not (is_index[i] and raw[i].str.fullmatch(r"\s*\d*\s*").all()) for i in raw]
    raw = raw.set_axis([name or f"column_{i}" for i, name in enumerate(header)], axis=1).loc[:, is_kept]
    if not raw.columns.is_unique:
        name = raw.columns[raw.columns.duplicated()][0]
        raise ValueError(f"{csv_path} has two columns {name!r}. Give each a name of its own.")
    return raw


def _find_columns(header: Iterable[str], known_names: str) -> list[str]:
    """List the columns that have one of the names, the likeliest first."""
    column_of = {_simplify(name): name for name in reversed(list(header))}
    return [column_of[name] for name in known_names.split() if name in column_of]


def _simplify(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


def _check_repeated(csv_path: Path, table: pd.DataFrame) -> None:
    """Raise a ValueError that names the lines which say different things of the same image."""
    said = table[["path", *(name for name in ("label", "split", "group") if name in table)]]
    differs = table[table["path"].duplicated(keep=False) & ~said.duplicated(keep=False)]
    if len(differs):
        same = table[table["path"] == differs["path"].iloc[0]]
        lines = ", ".join(f"line {number}: {label!r}" for number, label in same["label"].head(3).items())
        raise ValueError(
            f"{csv_path} lists {differs['path'].nunique()} images twice with different labels, splits or groups, the "
            f"first {same['image'].iloc[0]!r} ({lines}). Keep one row per image. If an image may have several labels, "
            "join them by '|': frame.groupby('image')['label'].agg('|'.join)."
        )


def _read_labels(raw: pd.DataFrame, label: str, marks: pd.DataFrame) -> tuple[bool, list[str]]:
    """Whether the file says that images may have several labels, and the joined labels of each."""
    if label:
        given = raw[label].str.replace(r'\s*\{"choices":\s*(\[.*\])\}\s*', r"\1", regex=True)  # of Label Studio
        is_list = given.str.fullmatch(_LIST, flags=re.DOTALL)
        rows = [_read_list(cell) if is_own else cell.split("|") for cell, is_own in zip(given, is_list, strict=True)]
        is_declared = any(len(row) > 1 or not row for row in rows)
    else:
        rows = [list(marks.columns[row]) for row in marks.isin(_YES).to_numpy()]
        is_declared = any(len(row) > 1 for row in rows)
    rows = [[normalize_name(name) for name in row] for row in rows]
    known = {name for row in rows for name in row}
    rows = [[name[:-2] if name.endswith(".0") and name[:-2] in known else name for name in row] for row in rows]
    labels = [LABEL_SEPARATOR.join(sorted({*row} - {""})) for row in rows]
    if not is_declared:
        _warn_of_joined(known)
    if is_declared and not any(LABEL_SEPARATOR in text for text in labels):
        labels = [text or LABEL_SEPARATOR for text in labels]  # so that it says so when it is saved
    return bool(is_declared), labels


def _read_list(cell: str) -> list[str]:
    """Read a list as Python and JSON write it, or one without quotes."""
    with contextlib.suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        found = ast.literal_eval(cell.strip())  # in parentheses it may be one text
        return [found] if isinstance(found, str) else [str(name) for name in found]
    names = re.split(r"['\"]?\s*,\s*['\"]?", cell.strip(" []()"))
    return [name.strip("'\"") for name in names if name]


def _warn_of_joined(labels: set[str]) -> None:
    """Warn where labels look like several ones that are joined by another sign than `|`."""
    for sign in ";, ":
        parts = Counter(part.strip() for label in labels for part in label.split(sign))
        joined = sorted(label for label in labels if sign in label)
        is_natural = sign == " " and len(parts) >= len(labels)  # milk bottle, water bottle
        if joined and max(parts.values()) > 1 and not is_natural:
            words = f"If labels such as {joined[0]!r} are several ones, join them by {LABEL_SEPARATOR!r}, not {sign!r}."
            warnings.warn(f"{words} They are taken as one.", stacklevel=5)
            return


def _read_splits(csv_path: Path, cells: pd.Series) -> list[str]:
    if _simplify(str(cells.name)) == "is_valid":  # as fastai has it
        return ["valid" if cell.strip().lower() in _YES else "train" for cell in cells]
    cells = cells.where(~cells.str.strip().str.lower().isin(_EMPTY), "")
    for number, cell in cells.drop_duplicates().items():
        if cell.strip() and not find_split_name(cell):
            expected = f"expected train, valid, test or nothing.{suggest_name(cell, SPLIT_NAMES)}"
            raise ValueError(f"{csv_path}, line {number}: got split {cell!r}, {expected}")
    return [find_split_name(cell) for cell in cells]


def _find_files(csv_path: Path, cells: pd.DataFrame) -> tuple[str, list[str], list[str]]:
    """Find the file of each row; return the column that names it, its names in the set, and its paths."""
    folder = csv_path.parent
    column = next(
        (name for name in cells if any(_find_file(folder, cell) for cell in cells[name][:50])), cells.columns[0]
    )
    if {"image", "path"} <= set(cells) and all(map(str.endswith, cells["path"], cells["image"])):
        column = "image"
    names = cells[column]
    if (names.str.strip() == "").any():
        line = names.index[names.str.strip() == ""][0]
        raise ValueError(f"{csv_path}, line {line}: column {column!r} names no image. Fill it in or delete the line.")
    paths = [_find_file(folder, cell) for cell in names]
    if not all(paths):
        paths = _find_files_of_elsewhere(folder, names) or paths
    if not all(paths):
        similar = _index_names(folder)
        found = [set().union(*(similar.get(_make_key(name), ()) for name in _spell(cell))) for cell in names]
        paths = [path or (str(*own) if len(own) == 1 else None) for path, own in zip(paths, found, strict=True)]
    images = [(path or cell).removeprefix(f"{folder}{os.sep}") for path, cell in zip(paths, names, strict=True)]
    if "path" in cells:  # of a table that was saved elsewhere
        paths = [path or _find_file(folder, cell) for path, cell in zip(paths, cells["path"], strict=True)]
    files = [make_printable(path) if path else "" for path in paths]
    name_of = dict(zip(files, images, strict=True))  # a file that is listed again has one name
    name_of = dict(zip(name_of, name_images(Path(image).as_posix() for image in name_of.values()), strict=True))
    named = [name_of[file] if file else image for file, image in zip(files, images, strict=True)]
    return column, named, files


def _find_files_of_elsewhere(folder: Path, names: Iterable[str]) -> list[str | None]:
    """Find the files of paths that begin with a folder of another machine, which this one or one below stands for."""
    cells = [_spell(cell)[-1] for cell in names]
    if not all(re.match("([a-zA-Z]:)?/", cell) for cell in cells):
        return []
    cells = [re.sub("^[a-zA-Z]:", "", cell) for cell in cells]
    shared = PurePosixPath(posixpath.commonpath([posixpath.dirname(cell) for cell in cells]))
    for base in (shared, *shared.parents):
        if _find_file(folder, posixpath.relpath(cells[0], base)):
            return [_find_file(folder, posixpath.relpath(cell, base)) for cell in cells]
    return []


def _find_file(folder: Path, cell: str) -> str | None:
    """Path of the file that a cell names, if there is one."""
    for name in _spell(cell):
        path = os.path.normpath(find_path(folder / name))
        if name and os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises an error for a name that is too long
            return path
    return None


def _spell(cell: str) -> list[str]:
    """The spellings of a name in a file: as it is, without blanks, as Windows writes it, and as a web address."""
    name = cell.strip().replace("\\", "/")
    decoded = urllib.parse.unquote(name.removeprefix("file://"), errors="surrogateescape")
    return list(dict.fromkeys((cell, cell.strip(), name, decoded)))


def _index_names(folder: Path) -> dict[str, set[Path]]:
    """Every image below a folder by the ends of its path, without extension, case and accents."""
    by_key = defaultdict(set)
    for path in list_image_files(folder):
        name = path.relative_to(folder).as_posix()
        for parts in (name.split("/"), os.fsencode(name).decode("cp1252", "replace").split("/")):
            for i in range(len(parts)):
                by_key[_make_key("/".join(parts[i:]))].add(path)
    return by_key


def _make_key(name: str) -> str:
    name = posixpath.normpath(normalize_name(name))
    stem, suffix = posixpath.splitext(name)
    return fold_name(stem if is_image_name(f"x{suffix}") else name)


def _count_unlisted(csv_path: Path, paths: Sequence[str]) -> Counter[str]:
    """Count the images in the folder of the data set that are not listed."""
    folders = {find_path(path).parent for path in paths}
    shared = csv_path.parent
    if csv_path.name.lower() != "labels.csv" and len({folder.anchor for folder in folders}) == 1:
        shared = Path(os.path.commonpath(folders))  # of a table that lies elsewhere, or lists a part
    is_own = shared == csv_path.parent or not csv_path.is_relative_to(shared)
    found = list_image_files(shared) if is_own else [path for folder in folders for path in folder.iterdir()]
    unlisted = sorted({make_printable(path) for path in found if is_image_name(path.name)} - set(paths))
    example = normalize_name(os.path.relpath(unlisted[0], csv_path.parent)) if unlisted else ""
    return Counter({f"not listed in {csv_path.name}, such as {example}": len(unlisted)} if unlisted else {})
