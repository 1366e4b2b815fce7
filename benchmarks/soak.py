"""Does the memory stay flat? `python -m benchmarks.soak [RUNTIME ...]`: 20,000 predictions in each runtime.

Each runtime is a process of its own, with timm's small network for tests at 64 px, so that it takes a minute: one
opened image a call, and every 20th from the bytes of a JPEG file. The memory of the process is read after each
twentieth of the calls; it grows by what the last twentieth has more than the first. Results go to `results/soak.json`;
what is there is measured again only if it is named.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tools.refresh_notebooks import fill_document
from utils_cv.models.runtimes import list_runtimes
from utils_cv.system.files import write_atomic

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/soak.json"
N_PREDICTIONS, N_PARTS, SIZE_PX = 20_000, 20, 64


def read_memory_mb() -> float:
    """Resident memory of this process, in 10**6 bytes (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def soak(folder: str, runtime: str, path: str) -> None:
    """Predict again and again, and print the memory after each part."""
    from utils_cv.models.saved_classifier import load_classifier

    classifier, content = load_classifier(folder, runtime=runtime), Path(path).read_bytes()
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE_PX, SIZE_PX, 3), np.uint8)
    memory_mb = []
    for i in range(1, N_PREDICTIONS + 1):
        classifier.predict_labels(pixels if i % 20 else content)
        if i % (N_PREDICTIONS // N_PARTS) == 0:
            memory_mb.append(round(read_memory_mb(), 1))
    print(json.dumps(memory_mb))


def read_rows() -> list[dict[str, Any]]:
    """Read what was measured so far."""
    return json.loads(RESULT.read_text())["rows"] if RESULT.is_file() else []


def main() -> None:
    """Soak what is missing, or what is named, and fill the result into the README."""
    from utils_cv.data.image_table import load_image_table, load_table_images
    from utils_cv.data.splits import complete_splits
    from utils_cv.models.quantization import add_int8
    from utils_cv.models.saved_classifier import save_classifier
    from utils_cv.training.learner import make_dataloaders, make_learner
    from utils_cv.training.trained_models import make_trained_model

    known = {"compile"} | {row["runtime"] for row in read_rows()}  # torch.compile needs a compiler
    names = sys.argv[1:] or [name for name in list_runtimes() if name not in known]
    with tempfile.TemporaryDirectory() as folder:
        images = load_table_images(complete_splits(load_image_table(ROOT / "data/fridge_objects")), SIZE_PX)
        learn = make_learner(make_dataloaders(images), "test_efficientnet", pretrained=False)
        save_classifier(make_trained_model(learn), folder)
        add_int8(Path(folder), images, is_checked=False)
        for name in names:
            words = [sys.executable, "-m", "benchmarks.soak", "--one", folder, name, images.table["path"].iloc[0]]
            done = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
            memory_mb = json.loads(done.stdout.splitlines()[-1])
            grown = {
                "first_mb": memory_mb[0],
                "last_mb": memory_mb[-1],
                "grown_mb": round(memory_mb[-1] - memory_mb[0], 1),
            }
            rows = [row for row in read_rows() if row["runtime"] != name]
            rows.append({"runtime": name, "n": N_PREDICTIONS} | grown | {"memory_mb": memory_mb})
            print(rows[-1], flush=True)
            with write_atomic(RESULT) as temporary_path:
                temporary_path.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")
    fill_document(ROOT / "benchmarks/README.md", ROOT / "notebooks")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        soak(*sys.argv[2:])
    else:
        main()
