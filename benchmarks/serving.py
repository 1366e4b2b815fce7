"""The web service under load on this computer: `python benchmarks/serving.py [MODEL_DIR] [FOLDER]`.

Clients ask as fast as they get answers, 1, 4 and 16 at a time, each with the next file of the folder. Beside it stands
the bare classifier, called by as many threads with the same bytes, before the service is started. While 16 clients ask,
the model in the folder is replaced again and again; every request must be answered. The service runs in a process of
its own, so that clients and service do not share Python's lock; they do share the processors. Results go to
`results/serving.json`. Needs `pip install -e '.[notebooks]'`.
"""

import asyncio
import itertools
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

from utils_cv.data.image_files import list_image_files
from utils_cv.models.saved_classifier import load_classifier
from utils_cv.system.files import write_atomic
from utils_cv.system.machine import describe_machine

RESULT = Path(__file__).parent / "results/serving.json"
N_CLIENTS, N_REQUESTS, N_REPLACED = (1, 4, 16), 200, 10


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


async def ask(url: str, contents: list[bytes], n_clients: int, n_requests: int) -> list[tuple[float, int]]:
    """Time requests of clients that each ask again once they are answered: milliseconds and status of each."""
    times, turns = [], iter(range(n_requests))

    async def be_client(client: httpx.AsyncClient) -> None:
        for i in turns:
            start = time.perf_counter()
            answer = await client.post(f"{url}/predict", files={"files": contents[i % len(contents)]})
            times.append(((time.perf_counter() - start) * 1000, answer.status_code))

    async with httpx.AsyncClient(timeout=120) as client:
        await asyncio.gather(*(be_client(client) for _ in range(n_clients)))
    return times


def time_bare(folder: Path, contents: list[bytes], n_clients: int, n_requests: int) -> list[float]:
    """Time the classifier itself, called by as many threads: milliseconds of each call."""
    classifier = load_classifier(folder)

    def predict(content: bytes) -> float:
        start = time.perf_counter()
        classifier.predict(content)
        return (time.perf_counter() - start) * 1000

    predict(contents[0])
    with ThreadPoolExecutor(n_clients) as pool:
        return list(pool.map(predict, itertools.islice(itertools.cycle(contents), n_requests)))


def summarize(way: str, n_clients: int, times_ms: list[float], seconds: float) -> dict[str, Any]:
    """Describe the times by their median and the one that 95 % keep below."""
    p50_ms, p95_ms = np.percentile(times_ms, [50, 95]).round(1).tolist()
    row = {"way": way, "n_clients": n_clients, "n": len(times_ms), "p50_ms": p50_ms, "p95_ms": p95_ms}
    return row | {"images_per_second": round(len(times_ms) / seconds, 1)}


def replace_under_load(folder: Path, url: str, contents: list[bytes]) -> dict[str, Any]:
    """Replace the model while 16 clients ask; nothing may be lost."""
    info = json.loads((folder / "model.json").read_text(encoding="utf-8"))

    async def replace() -> None:
        for _ in range(N_REPLACED):
            await asyncio.sleep(0.3)
            with write_atomic(folder / "model.json") as temporary_path:  # the same facts in a new file: loaded anew
                temporary_path.write_text(json.dumps(info, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    async def both() -> list[tuple[float, int]]:
        answers, _ = await asyncio.gather(ask(url, contents, 16, 2 * N_REQUESTS), replace())
        return answers

    answers = asyncio.run(both())
    lost = sum(status != 200 for _, status in answers)
    return {"n_requests": len(answers), "n_lost": lost, "n_replaced": N_REPLACED}


def main() -> None:
    """Measure everything and write the result."""
    model_dir = Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/my_classifier")
    images = list_image_files(sys.argv[2] if len(sys.argv) > 2 else "data/fridge_objects")[::7]
    contents, rows = [path.read_bytes() for path in images], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(shutil.copytree(model_dir, Path(temporary) / "model"))
        for n_clients in N_CLIENTS:
            start = time.perf_counter()
            times_ms = time_bare(folder, contents, n_clients, N_REQUESTS)
            rows.append(summarize("bare classifier", n_clients, times_ms, time.perf_counter() - start))
            with start_service(folder) as url:
                asyncio.run(ask(url, contents, n_clients, 2 * n_clients))  # warm up
                start = time.perf_counter()
                answers = asyncio.run(ask(url, contents, n_clients, N_REQUESTS))
                seconds = time.perf_counter() - start
            assert all(status == 200 for _, status in answers)
            rows.append(summarize("service", n_clients, [ms for ms, _ in answers], seconds))
            print(rows[-2], rows[-1], sep="\n", flush=True)
        with start_service(folder) as url:
            replaced = replace_under_load(folder, url, contents)
    load = os.getloadavg()[1]
    result = {"machine": describe_machine(), "load_average_after": round(load, 1), "n_files": len(images)}
    with write_atomic(RESULT) as temporary_path:
        text = json.dumps(result | {"table": rows, "replaced": [replaced]}, indent=1)
        temporary_path.write_text(text + "\n", encoding="utf-8")
    print(replaced)


if __name__ == "__main__":
    main()
