"""Image tables from folders: a folder for each class, or folders of splits that hold them."""

import difflib
import re
import warnings
from collections import Counter, defaultdict
from pathlib import Path

import pandas as pd

from .image_files import find_image_files, is_image_name, list_dirs
from .image_headers import make_printable
from .labels import LABEL_SEPARATOR, SHORT_SPLIT_WORDS, SPLIT_NAMES, find_split_name, name_images, normalize_name

_EXPECTED = (
    "Put the images of each class into a folder, such as train/cat/, or list them in labels.csv. If one of them is a "
    "class, give its folder another name."
)
# A folder that holds only such files, as tools write them, is no class.
_DOCUMENTS = "txt json csv tsv xml yaml yml md py ipynb pt pth onnx pkl npy npz log html"
_NO_IMAGES = {f"extension .{kind}" for kind in _DOCUMENTS.split(" ")}
# Parts of a data set that are neither classes nor train, val or test.
_PARTS = re.compile(r"(k?[ _-]?folds?|cv|cross[ _-]?val\w*|splits?|quer(y|ies)|galler(y|ies))[ _-]*\d*", re.IGNORECASE)
# What annotation programs write side by side: not classes either.
_ANNOTATED = re.compile(
    r"(jpeg)?(images?|imgs?)|masks?|annotations?|labels?|bbox(es)?|segmentations?(class|object)?|ground[ _-]?truths?",
    re.IGNORECASE,
)
_Found = dict[Path, tuple[list[Path], Counter[str]]]  # of each folder the images, and what is left out
_Row = tuple[Path, str, str]  # path, name of the class folder, split


def load_folder_table(root: Path) -> tuple[pd.DataFrame, Counter[str]]:
    """Load folders of classes, or folders of splits that hold them; count what is left out, by reason."""
    left_out: Counter[str] = Counter()
    folders = list_dirs(root)
    own = {folder.resolve() for folder in folders if not folder.is_symlink()}
    linked = [folder for folder in folders if folder.is_symlink() and folder.resolve() in own]
    left_out["link to a folder of the set"] += len(linked)
    found = {folder: find_image_files(folder, root=root) for folder in folders if folder not in linked}
    for folder in [folder for folder, (images, others) in found.items() if not images and set(others) <= _NO_IMAGES]:
        left_out[f"{'folder without images' if found[folder][1] else 'empty folder'} {folder.name!r}"] += 1
        del found[folder]
    if not any(images for images, _ in found.values()):
        raise ValueError(f"No images in folders of {root}; expected one for each class.{_describe(root)}")
    split_of = {folder: find_split_name(folder.name) for folder in found}
    if not all(split_of.values()):
        split_of |= {folder: "" for folder in found if folder.name.lower() in SHORT_SPLIT_WORDS}
    n_loose = sum(is_image_name(path.name) and path.is_file() for path in root.iterdir())
    left_out["beside the folders"] += n_loose
    if any(split_of.values()) and not _is_class_called_train(found, split_of):
        rows, others = _list_split_rows(root, found, split_of)
    elif all(_may_be_split(folder, images) for folder, (images, _) in found.items()):
        names = ", ".join(folder.name for folder in found)
        raise ValueError(
            f"{root}: {names} look like splits, but not which. Call them train/, val/ and test/. If they are classes, "
            "give them other names."
        )
    elif _name_classes_and_splits(list(found)):
        names = ", ".join(folder.name for folder in found)
        raise ValueError(f"{root}: {names} name classes and splits. {_EXPECTED}")
    else:
        rows, others = _list_class_rows(root, found)
        _warn_of_inner_classes(root, rows)
    left_out += others  # drops what is zero
    table = pd.DataFrame(rows, columns=["path", "label", "split"])
    for name in table["label"].unique():
        if LABEL_SEPARATOR in name or not normalize_name(name):
            raise ValueError(
                f"{root}: folder {name!r} cannot name a class, because {LABEL_SEPARATOR!r} separates several labels "
                "and blanks do not count. Rename it."
            )
    if all(find_split_name(name) for name in table["label"].unique()):
        names = ", ".join(table["label"].unique())
        raise ValueError(f"{root}: {names} stand where folders of classes should; they name splits. {_EXPECTED}")
    if len(names := table["label"].unique()) > 1 and all(map(_ANNOTATED.fullmatch, names)):
        raise ValueError(
            f"{root}: {', '.join(names)} look like images and what was drawn on them, not like classes. {_EXPECTED}"
        )
    table["label"] = table["label"].map({name: normalize_name(name) for name in table["label"].unique()})
    table.insert(0, "image", name_images(path.relative_to(root).as_posix() for path in table["path"]))
    order = table["split"].map(("", *SPLIT_NAMES).index)
    return table.assign(path=table["path"].map(make_printable)).iloc[order.argsort(kind="stable")].reset_index(
        drop=True
    ), left_out


def _is_class_called_train(found: _Found, split_of: dict[Path, str]) -> bool:
    """Whether `train` is a vehicle: it stands beside other classes, no folder names another split, all hold images."""
    named = [folder for folder, split in split_of.items() if split]
    is_flat = all(path.parent == folder for folder, (images, _) in found.items() for path in images)
    return len(found) > 2 and len(named) == 1 and named[0].name.lower() == "train" and is_flat


def _may_be_split(folder: Path, images: list[Path]) -> bool:
    has_word = re.search("train|test|val", folder.name.lower()) is not None and all(p.parent != folder for p in images)
    return has_word or _PARTS.fullmatch(folder.name) is not None


def _name_classes_and_splits(folders: list[Path]) -> bool:
    """Whether every folder names a class and a split, as cat_train and cat_test do, with the same classes in each."""
    classes = defaultdict(set)
    for folder in folders:
        words = re.split(r"[\s_.-]+", folder.name.lower())
        for word, others in ((words[0], words[1:]), (words[-1], words[:-1])):
            if split := find_split_name(word):
                classes[split].add(" ".join(others))
    n_found = sum(map(len, classes.values()))
    return len(classes) > 1 and n_found == len(folders) and len({frozenset(names) for names in classes.values()}) == 1


def _warn_of_inner_classes(root: Path, rows: list[_Row]) -> None:
    """Warn where all class folders hold folders of the same names: these may be the classes, and those parts."""
    inner = defaultdict(set)
    for path, name, split in rows:
        inner[name].add("" if split or path.parent.parent == root else path.relative_to(root).parts[1])
    names = sorted(next(iter(inner.values())))
    if len(inner) > 1 and len(names) > 1 and names[0] and all(sorted(others) == names for others in inner.values()):
        words = f"{root}: each of {', '.join(list(inner)[:3])} holds folders {', '.join(names[:3])}."
        warnings.warn(f"{words} If these are the classes, move them up: the outer ones were taken.", stacklevel=4)


def _list_class_rows(root: Path, found: _Found) -> tuple[list[_Row], Counter[str]]:
    """Every folder is a class; where folders of splits lie right below each of them, these give the splits."""
    rows, left_out = [], Counter[str]()
    for folder, (images, others) in found.items():
        if not images:
            raise ValueError(
                f"{root}: no image in class folder {folder.name!r}. Add images, or move the folder elsewhere."
                f"{_describe_files(folder)}"
            )
        left_out += others
        rows += [(path, folder.name, find_split_name(path.relative_to(folder).parts[0])) for path in images]
    has_splits = all(split and path.parent.parent != root for path, _, split in rows)
    return rows if has_splits else [(path, name, "") for path, name, _ in rows], left_out


def _list_split_rows(root: Path, found: _Found, split_of: dict[Path, str]) -> tuple[list[_Row], Counter[str]]:
    """Folders of splits hold the class folders; `seg_train/seg_train/` and `train/images/` are one level."""
    rows, left_out = [], Counter[str]()
    for folder, split in split_of.items():
        if not split:
            continue
        images, others = found[folder]
        parts = [path.relative_to(folder).parts for path in images]
        first = {names[0] for names in parts if len(names) > 2}
        is_nested = len(first) == 1 and all(names[0] in first for names in parts)
        level = int(is_nested and any(find_split_name(name) == split or name.lower() == "images" for name in first))
        in_class = [(path, names[level]) for path, names in zip(images, parts, strict=True) if len(names) > level + 1]
        rows += [(path, name, split) for path, name in sorted(in_class, key=lambda row: (row[1].casefold(), row[1]))]
        left_out += others + Counter({f"in {folder.name}/, but in no class folder": len(images) - len(in_class)})
    names = ", ".join(f"{folder.name}/" for folder, split in split_of.items() if split)
    if not rows:
        tables = [path.name for folder in (root, *split_of) for path in folder.glob("*.[ct]sv")]
        hint = f" Found {tables[0]}: to load what it lists, give its path." if tables else ""
        raise ValueError(f"{root} holds {names}, but no class folders inside. {_EXPECTED}{hint}")
    class_names = {normalize_name(name) for _, name, _ in rows}
    for folder in [folder for folder, split in split_of.items() if not split]:
        close = difflib.get_close_matches(
            folder.name.lower(), ["train", "training", "val", "valid", "test"], cutoff=0.7
        )
        if normalize_name(folder.name) in class_names or close:
            raise ValueError(
                f"{root} holds {names} and also {folder.name}. Expected either only train/, val/ (or valid/) and "
                f"test/, or only class folders.{f' Did you mean {close[0]!r}?' if close else ''}"
            )
        left_out += Counter({f"in {folder.name}/, beside {names}": len(found[folder][0])})
    return rows, left_out


def _describe(folder: Path) -> str:
    """Say what a folder without class folders holds, so that a wrong folder is recognized."""
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    if not entries:
        return " The folder is empty."
    files = [path for path in entries if path.is_file()]
    loose = [path for path in files if is_image_name(path.name)]
    if loose:
        return f" Found {len(loose)} images beside each other: put each class into a folder of its own."
    tables = [path.name for path in files if path.suffix.lower() in {".csv", ".tsv"}]
    if tables:
        return f" Found {tables[0]}: to load what it lists, give its path, or call it labels.csv."
    shown = ", ".join(sorted(path.name for path in entries)[:5])
    return f" Found {len(files)} files and {len(entries) - len(files)} folders: {shown}.{_describe_files(folder)}"


def _describe_files(folder: Path) -> str:
    """Say what kinds of files lie anywhere below a folder that has no images, most frequent first."""
    suffixes = Counter(path.suffix.lower() or "none" for path in folder.rglob("*") if path.is_file())
    if not suffixes:
        return " No file lies in any of them."
    kinds = ", ".join(suffix for suffix, _ in suffixes.most_common(5))
    return f" Extensions of the {suffixes.total()} files below it: {kinds}."
