"""Opening and resizing JPEG files: utils_cv against torchvision, fastai, and raw libjpeg-turbo as the limit.

    python benchmarks/loading.py                      # files made from the demo images, some two minutes
    python benchmarks/loading.py --folder my/photos   # any folder of JPEG files

All methods take turns on the same files in one run, so that ratios hold even where the machine is shared.
Needs `pip install simplejpeg` beside the package.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from utils_cv.data.image_files import list_image_files
from utils_cv.data.images import load_image, load_images, resize_image
from utils_cv.system.machine import count_cpus, describe_machine
from utils_cv.system.threads import map_in_threads

SIZE_PX = 224
N_WORKERS = 2
N_REPEATS = 3


def make_files(out_dir: Path, n_files: int, width: int, height: int, n_tiles: int) -> list[Path]:
    """Write JPEGs that are mosaics of demo images, n_tiles × n_tiles each: the detail of photographs of that size."""
    random = np.random.default_rng(0)
    sources = list_image_files("data/fridge_objects")
    tile_wh = width // n_tiles, height // n_tiles
    tiles = [load_image(path).resize(tile_wh, Image.Resampling.BICUBIC) for path in random.choice(sources, 60)]
    folder = out_dir / "images"
    folder.mkdir(parents=True)
    for number in range(n_files):
        mosaic = Image.new("RGB", (width, height))
        for place, tile in enumerate(random.integers(0, len(tiles), n_tiles**2)):
            mosaic.paste(tiles[tile], (place % n_tiles * tile_wh[0], place // n_tiles * tile_wh[1]))
        mosaic.save(folder / f"{number:04d}.jpg", quality=90)
    return list_image_files(folder)


def decode_raw(paths: list[Path]) -> None:
    """Decode at the smallest scale of libjpeg-turbo that is large enough; nothing is resized."""

    def decode(path: Path) -> None:
        simplejpeg.decode_jpeg(path.read_bytes(), min_height=SIZE_PX, min_width=SIZE_PX)

    for _ in map_in_threads(decode, paths, n_threads=count_cpus()):
        pass


def load_ours(paths: list[Path]) -> None:
    """Load with `load_images`."""
    load_images(paths, SIZE_PX)


def load_torchvision(paths: list[Path]) -> None:
    """Load with ImageFolder and DataLoader."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    resize = transforms.Compose([transforms.Resize((SIZE_PX, SIZE_PX)), transforms.ToTensor()])
    folder = datasets.ImageFolder(str(paths[0].parent.parent), resize)
    for _ in DataLoader(folder, batch_size=choose_batch_size(paths), num_workers=N_WORKERS):
        pass


def load_fastai(paths: list[Path]) -> None:
    """Load with fastai's DataLoaders."""
    from fastai.vision.all import ImageDataLoaders, Resize, ResizeMethod

    loaders = ImageDataLoaders.from_lists(
        paths[0].parent,
        paths,
        ["a", "b"] * (len(paths) // 2) + ["a"] * (len(paths) % 2),
        item_tfms=Resize(SIZE_PX, ResizeMethod.Squish),
        bs=choose_batch_size(paths),
        num_workers=N_WORKERS,
        device="cpu",
    )
    for _ in loaders.test_dl(paths, num_workers=N_WORKERS):
        pass


def choose_batch_size(paths: list[Path]) -> int:
    """At least 20 batches, so that all workers share the work."""
    return max(1, min(8, len(paths) // 20))


METHODS: dict[str, Callable[[list[Path]], None]] = {
    "raw libjpeg-turbo": decode_raw,
    "utils_cv": load_ours,
    "torchvision": load_torchvision,
    "fastai": load_fastai,
}


def measure_rates(paths: list[Path]) -> dict[str, list[float]]:
    """Images per second of each method in each repeat; the first round only warms up."""
    rates: dict[str, list[float]] = {name: [] for name in METHODS}
    for repeat in range(N_REPEATS + 1):
        for name, method in METHODS.items():
            begin = time.perf_counter()
            method(paths)
            if repeat:
                rates[name].append(len(paths) / (time.perf_counter() - begin))
    return rates


def measure_difference(paths: list[Path]) -> tuple[float, float]:
    """Mean absolute difference (of 255) to full decoding and the same resize, and the worst PSNR in dB."""
    differences, psnrs = [], []
    for path, pixels in zip(paths, load_images(paths, SIZE_PX).pixels, strict=True):
        full = np.asarray(resize_image(load_image(path), SIZE_PX), float)
        difference = pixels - full
        differences.append(float(np.abs(difference).mean()))
        psnrs.append(10 * np.log10(255**2 / max(float(np.mean(difference**2)), 1e-9)))
    return max(differences), min(psnrs)


def report(title: str, paths: list[Path]) -> None:
    """Measure and print one size of file."""
    rates = measure_rates(paths)
    difference, psnr = measure_difference(paths[:40])
    print(f"\n## {title}: {len(paths)} files, {N_REPEATS} rounds\n")
    print("| method | images/s, median (range) | utils_cv is so many times as fast |")
    print("|---|---|---|")
    for name, values in rates.items():
        ratios = [ours / other for ours, other in zip(rates["utils_cv"], values, strict=True)]
        median, ratio = statistics.median(values), statistics.median(ratios)
        print(
            f"| {name} | {median:.0f} ({min(values):.0f}–{max(values):.0f}) | "
            f"{ratio:.2f} ({min(ratios):.2f}–{max(ratios):.2f}) |"
        )
    print(
        f"\nAgainst full decoding, worst of {len(paths[:40])} files: mean difference {difference:.2f} of 255, "
        f"PSNR {psnr:.1f} dB."
    )


def main() -> None:
    """Measure 12 megapixel and 0.2 megapixel files, or those of a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a folder with one folder of JPEG files; default: made here")
    folder = parser.parse_args().folder
    print(f"{describe_machine()}; load before: {os.getloadavg()[0]:.1f}; {count_cpus()} threads, {N_WORKERS} workers")
    if folder:
        report(
            str(folder.name), [path for path in list_image_files(folder) if path.suffix.lower() in {".jpg", ".jpeg"}]
        )
        return
    with tempfile.TemporaryDirectory() as out_dir:
        report("12 megapixels (4000 × 3000)", make_files(Path(out_dir) / "large", 40, 4000, 3000, 10))
        report("0.2 megapixels (500 × 375)", make_files(Path(out_dir) / "small", 200, 500, 375, 1))
    print(f"\nload after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
