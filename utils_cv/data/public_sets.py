"""Public photo sets through `torchvision.datasets`: its loaders and checksums, our image table and messages."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class PublicSet:
    """What is known of a set before it is fetched.

    Attributes:
        loader: Class in `torchvision.datasets`.
        folder: Where torchvision keeps it below the data folder.
        urls: The files that torchvision downloads into that folder.
        splits: torchvision's name of each part and ours; an empty name means that there are no parts.
        n_images: Images of the whole set, to tell an interrupted unpacking from a complete one.
    """

    loader: str
    folder: str
    urls: tuple[str, ...]
    splits: dict[str, str]
    n_images: int


_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data"
PUBLIC_SETS = {
    "oxford_pets": PublicSet(
        loader="OxfordIIITPet",
        folder="oxford-iiit-pet",
        urls=(f"{_OXFORD}/pets/data/images.tar.gz", f"{_OXFORD}/pets/data/annotations.tar.gz"),
        splits={"trainval": "train", "test": "test"},
        n_images=7349,
    ),
    "flowers_102": PublicSet(
        loader="Flowers102",
        folder="flowers-102",
        urls=tuple(f"{_OXFORD}/flowers/102/{file}" for file in ("102flowers.tgz", "imagelabels.mat", "setid.mat")),
        splits={"train": "train", "val": "valid", "test": "test"},
        n_images=8189,
    ),
    "eurosat": PublicSet(
        loader="EuroSAT",
        folder="eurosat",
        urls=(
            "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/"
            "EuroSAT.zip",
        ),
        splits={"": ""},
        n_images=27000,
    ),
    "dtd": PublicSet(
        loader="DTD",
        folder="dtd",
        urls=(f"{_OXFORD}/dtd/download/dtd-r1.0.1.tar.gz",),
        splits={"train": "train", "val": "valid", "test": "test"},
        n_images=5640,
    ),
}


def load_public_set(name: str, data_dir: Path) -> pd.DataFrame:
    """Fetch a set once and return its image table; see `datasets.fetch_public_set`.

    Raises:
        ConnectionError: If a file cannot be downloaded.
        ValueError: If the name is unknown, or the set on the disk is incomplete.
    """
    if name not in PUBLIC_SETS:
        close = difflib.get_close_matches(name, PUBLIC_SETS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"No public set {name!r}; there are {', '.join(PUBLIC_SETS)}.{hint}")
    facts, data_dir = PUBLIC_SETS[name], data_dir.absolute()
    data_dir.mkdir(parents=True, exist_ok=True)
    rows = []
    for part, split in facts.splits.items():
        dataset = _open_part(name, facts, part, data_dir)
        rows += [(path.relative_to(data_dir).as_posix(), str(path), label, split) for path, label in _list(dataset)]
    _check_complete(name, facts, data_dir, [path for _, path, _, _ in rows])
    return pd.DataFrame(rows, columns=["image", "path", "label", "split"])


def _open_part(name: str, facts: PublicSet, part: str, data_dir: Path) -> Any:
    from torchvision import datasets  # only here: importing it takes seconds

    arguments = {"split": part} if part else {}
    try:
        return getattr(datasets, facts.loader)(data_dir, download=True, **arguments)
    except (OSError, RuntimeError) as error:  # no network, a refused address, a checksum that differs
        folder = data_dir / facts.folder
        if isinstance(error, FileNotFoundError):
            raise ValueError(_explain_incomplete(name, folder, str(error))) from error
        addresses = " and ".join(facts.urls)
        raise ConnectionError(
            f"Could not fetch {name!r}: {error}. It is made of {addresses}. Check the network and call again; or "
            f"download {'it' if len(facts.urls) == 1 else 'them'} elsewhere into {folder} and call again, which "
            "unpacks without a network. The sets in data/ need no download: see list_demo_sets()."
        ) from error


def _list(dataset: Any) -> Iterator[tuple[Path, str]]:
    """List path and label of each image; torchvision keeps them under another name in each class."""
    if hasattr(dataset, "samples"):
        pairs = dataset.samples
    else:
        paths = dataset._images if hasattr(dataset, "_images") else dataset._image_files
        pairs = zip(paths, dataset._labels, strict=True)
    class_names = getattr(dataset, "classes", None)  # older torchvision has none for the flowers
    for path, code in pairs:
        yield Path(path), class_names[code] if class_names else f"class_{code + 1:03d}"


def _check_complete(name: str, facts: PublicSet, data_dir: Path, paths: list[str]) -> None:
    n_found = sum(Path(path).is_file() for path in paths)
    if n_found != facts.n_images:
        found = f"got {n_found} images, expected {facts.n_images}"
        raise ValueError(_explain_incomplete(name, data_dir / facts.folder, found))


def _explain_incomplete(name: str, folder: Path, found: str) -> str:
    return (
        f"{name!r} in {folder} is incomplete: {found}. Unpacking was perhaps interrupted: remove what is unpacked "
        "there, keep the archive, and call again."
    )
