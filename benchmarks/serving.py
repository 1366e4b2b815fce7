"""The web service under load on this computer: `python -m benchmarks.serving [MODEL_DIR] [OTHER_DIR] [FOLDER]`.

Clients ask as fast as they get answers, 1, 4 and 16 at a time, each with the next file of the folder. Beside it stands
the bare session: onnxruntime with its default options, asked by as many threads about images that are open already.
Both take turns, several rounds each. Then 16 clients ask while the model in the folder is replaced by that of
`OTHER_DIR` and back, again and again: every request must be answered, and by one of the two. The service runs in a
process of its own, so that clients and service do not share Python's lock; they do share the processors. Results go to
`results/serving.json` and into the table of `README.md`. Needs `pip install -e '.[notebooks]'`, and the models that
notebooks 01 and 15 leave in `outputs`.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime

from tools.refresh_notebooks import fill_document
from utils_cv.data.image_files import list_image_files
from utils_cv.data.images import load_images
from utils_cv.models.model_files import commit_model, read_model_info, stage_model
from utils_cv.models.saved_classifier import load_classifier
from utils_cv.system.files import write_atomic
from utils_cv.system.machine import describe_machine

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/serving.json"
N_CLIENTS, N_ROUNDS, N_REQUESTS, N_REPLACED = (1, 4, 16), 5, 80, 10
MAX_DIFFERENCE = 1e-4  # of a probability


@contextmanager
def start_service(folder: Path) -> Iterator[str]:
    """Start the command `serve` in a process of its own; gives its address."""
    argv = [sys.executable, "-m", "utils_cv", "serve", str(folder), "--port", "0"]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        yield re.search(r"http://[^/]+", process.stderr.readline())[0]  # type: ignore[index]
    finally:
        process.terminate()
        process.wait()


async def ask(url: str, contents: list[bytes], n_clients: int, n_requests: int) -> list[tuple[float, Any]]:
    """Time requests of clients that each ask again once they are answered: milliseconds and the answer of each."""
    answers, turns = [], iter(range(n_requests))

    async def be_client(client: httpx.AsyncClient) -> None:
        for i in turns:
            start = time.perf_counter()
            answer = await client.post(f"{url}/predict", files={"files": contents[i % len(contents)]})
            ms = (time.perf_counter() - start) * 1000
            found = answer.json()["predictions"][0]["probabilities"] if answer.status_code == 200 else None
            answers.append((ms, found and (i % len(contents), list(found.values()))))

    async with httpx.AsyncClient(timeout=120) as client:
        await asyncio.gather(*(be_client(client) for _ in range(n_clients)))
    return answers


def time_bare(session: Any, pixels: np.ndarray, n_clients: int, n_requests: int) -> list[float]:
    """Time the session itself, called by as many threads with one image each: milliseconds of each call."""

    def run(i: int) -> float:
        start = time.perf_counter()
        session.run(["output"], {"pixels": pixels[i % len(pixels)][None]})
        return (time.perf_counter() - start) * 1000

    with ThreadPoolExecutor(n_clients) as pool:
        return list(pool.map(run, range(n_requests)))


def compare(folder: Path, contents: list[bytes], pixels: np.ndarray) -> list[dict[str, Any]]:
    """Time both ways in turn: one row for each and each number of clients."""
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    rows = []
    with start_service(folder) as url:
        for n_clients in N_CLIENTS:
            parts: dict[str, list[tuple[list[float], float]]] = {"bare session": [], "service": []}
            time_bare(session, pixels, n_clients, n_clients)  # warm up
            asyncio.run(ask(url, contents, n_clients, 2 * n_clients))
            for _ in range(N_ROUNDS):
                start = time.perf_counter()
                times_ms = time_bare(session, pixels, n_clients, N_REQUESTS)
                parts["bare session"].append((times_ms, time.perf_counter() - start))
                start = time.perf_counter()
                answers = asyncio.run(ask(url, contents, n_clients, N_REQUESTS))
                parts["service"].append(([ms for ms, _ in answers], time.perf_counter() - start))
                assert all(found for _, found in answers)
            for way, measured in parts.items():
                times_ms = [ms for part, _ in measured for ms in part]
                rows.append(summarize(way, n_clients, times_ms, sum(seconds for _, seconds in measured)))
                print(rows[-1], flush=True)
    return rows


def summarize(way: str, n_clients: int, times_ms: list[float], seconds: float) -> dict[str, Any]:
    """Describe the times by their median and the one that 95 % keep below."""
    p50_ms, p95_ms = np.percentile(times_ms, [50, 95]).round(1).tolist()
    row = {"way": way, "n_clients": n_clients, "n": len(times_ms), "p50_ms": p50_ms, "p95_ms": p95_ms}
    return row | {"images_per_second": round(len(times_ms) / seconds, 1)}


def replace_model(folder: Path, source: Path) -> None:
    """Make the model in `source` that in `folder`."""
    info = read_model_info(source)
    with stage_model(folder) as stage:
        for name in (*info.files, "README.md"):
            shutil.copyfile(source / name, stage / name)
        commit_model(info, folder, stage)


def replace_under_load(folder: Path, models: list[Path], contents: list[bytes]) -> dict[str, Any]:
    """Replace the model by others while 16 clients ask; each answer must be that of one of them."""
    expected = np.stack([load_classifier(model).predict(contents) for model in models])  # (2, n_contents, n_classes)

    async def replace() -> None:
        for turn in range(N_REPLACED):
            await asyncio.sleep(0.5)
            await asyncio.to_thread(replace_model, folder, models[(turn + 1) % 2])

    async def both(url: str) -> list[tuple[float, Any]]:
        replacing, answers = asyncio.ensure_future(replace()), []
        while not replacing.done():
            answers += await ask(url, contents, 16, N_REQUESTS)
        return answers + await ask(url, contents, 16, N_REQUESTS)

    with start_service(folder) as url:
        answers = asyncio.run(both(url))
    found = [found for _, found in answers if found]
    off = np.array([abs(expected[:, i] - values).max(axis=1) for i, values in found])  # (n_answers, 2)
    first, second = (off <= MAX_DIFFERENCE).T
    counts = {
        "n_of_first": int(first.sum()),
        "n_of_second": int(second.sum()),
        "n_of_neither": int((~first & ~second).sum()),
    }
    return {"n_requests": len(answers), "n_lost": len(answers) - len(found), "n_replaced": N_REPLACED, **counts}


def main() -> None:
    """Measure everything, write the result, and fill it into the README."""
    given = [Path(word) for word in sys.argv[1:]]
    models = (given + [ROOT / "outputs/my_classifier", ROOT / "outputs/unknown_images"][len(given) :])[:2]
    paths = list_image_files(given[2] if len(given) > 2 else ROOT / "data/fridge_objects")[::7]
    contents = [path.read_bytes() for path in paths]
    pixels = load_images(paths, read_model_info(models[0]).im_size_px).pixels
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(shutil.copytree(models[0], Path(temporary) / "model"))
        rows = compare(folder, contents, pixels)
        load = os.getloadavg()[0]
        replaced = replace_under_load(folder, models, contents)
    print(replaced)
    result = {"machine": describe_machine(), "load_average_after": round(load, 1), "n_files": len(paths)}
    with write_atomic(RESULT) as temporary_path:
        text = json.dumps(result | {"table": rows, "replaced": [replaced]}, indent=1)
        temporary_path.write_text(text + "\n", encoding="utf-8")
    fill_document(ROOT / "benchmarks/README.md", ROOT / "notebooks")


if __name__ == "__main__":
    main()
