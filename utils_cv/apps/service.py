"""A web service over the folder of a finished model, with FastAPI and without torch.

`python -m utils_cv serve MODEL` starts it. When the folder holds another model, that one answers from then on.
"""

import contextlib
import dataclasses
import math
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import python_multipart  # noqa: F401  FastAPI reads uploads with it, and would only say so at the first one
import uvicorn
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, HTTPException, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from utils_cv.models.model_card import read_card
from utils_cv.models.model_files import INFO_NAME
from utils_cv.models.saved_classifier import ImageClassifier, load_classifier
from utils_cv.system.machine import count_cpus

_EXPECTED = "Expected a form with one or several images in the field 'files', such as: curl -F files=@image.jpg {url}"
_RETRY_S = 1.0  # between two tries to load what cannot be loaded


class _LiveModel:
    """The classifier in a folder; loaded anew when the folder holds another one, which no request has to wait for."""

    def __init__(self, folder: Path, runtime: str) -> None:
        self.folder, self.runtime, self.problem = folder, runtime, ""
        self._lock, self._next_try = threading.Lock(), 0.0
        self._stamp = self._read_stamp()
        self._classifier = load_classifier(folder, runtime=runtime)

    def get(self) -> ImageClassifier:
        """The newest classifier that can be loaded: the one before while another request loads it, or if it fails."""
        stamp = self._read_stamp()
        if stamp != self._stamp and time.monotonic() >= self._next_try and self._lock.acquire(blocking=False):
            try:
                self._classifier = load_classifier(self.folder, runtime=self.runtime)
                self._stamp, self.problem = stamp, ""
            except (OSError, ValueError) as error:
                self.problem, self._next_try = str(error), time.monotonic() + _RETRY_S
            finally:
                self._lock.release()
        return self._classifier

    def _read_stamp(self) -> tuple[int, ...] | None:
        path = self.folder / INFO_NAME
        facts = path.stat() if path.is_file() else None
        return facts and (facts.st_mtime_ns, facts.st_size, facts.st_ino)


class _LimitBody:
    """Refuse a request whose body is too large, as soon as that is known."""

    def __init__(self, app: ASGIApp, max_mb: float) -> None:
        self.app, self.max_mb = app, max_mb

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        n_bytes, promised = 0, dict(scope.get("headers", [])).get(b"content-length", b"0")
        detail = f"The upload is larger than {self.max_mb:g} MB. Send fewer or smaller images."
        if promised.isdigit() and int(promised) > self.max_mb * 1e6:  # before any of it is sent
            await JSONResponse({"detail": detail}, 413, {"connection": "close"})(scope, receive, send)
            return

        async def receive_some() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > self.max_mb * 1e6:
                raise HTTPException(413, detail)
            return message

        await self.app(scope, receive_some if scope["type"] == "http" else receive, send)


def make_app(
    folder: str | Path, *, runtime: str = "auto", max_file_mb: float = 20.0, max_total_mb: float = 100.0
) -> FastAPI:
    """Make the web application, for any ASGI server.

    `POST /predict` takes a form with one or several images in the field `files` and gives, for each in order, its
    label, the probability of every class and perhaps a `problem`; where none can be opened the status is 422, where
    one is larger than `max_file_mb`, or all than `max_total_mb` (10**6 bytes), 413. `GET /model` tells what is known of
    the model, which may be replaced meanwhile, `GET /health` whether the newest one answers.
    """
    if not all(0 < limit_mb < math.inf for limit_mb in (max_file_mb, max_total_mb)):
        raise ValueError(f"Got limits of {max_file_mb:g} and {max_total_mb:g} MB; expected more than 0, and no NaN.")
    model, limiter = _LiveModel(Path(folder), runtime), CapacityLimiter(count_cpus())
    # The usual pages of documentation fetch their scripts from another server, so there are none.
    app = FastAPI(title="Image classifier", docs_url=None, redoc_url=None)
    app.add_middleware(_LimitBody, max_mb=max_total_mb)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(400)  # the form cannot be read at all
    def explain(request: Request, error: Exception) -> JSONResponse:
        status = 422 if isinstance(error, RequestValidationError) else 400
        detail = f"{getattr(error, 'detail', '')} {_EXPECTED.format(url=request.url)}".strip()  # such as too many files
        return JSONResponse({"detail": detail}, status_code=status)

    @app.get("/")
    def describe(request: Request) -> dict[str, str]:
        return {"/predict": _EXPECTED.format(url=f"{request.url}predict"), "/model": "what is known of the model"}

    @app.get("/health")
    def report_health() -> dict[str, str]:
        model.get()
        return {"status": "old model" if model.problem else "ok", "problem": model.problem}

    @app.get("/model")
    def describe_model() -> dict[str, Any]:
        classifier = model.get()
        facts = {"runtime": classifier.runtime, "license": read_card(model.folder)[1] or "other"}  # not in `model.json`
        return facts | dataclasses.asdict(classifier.info)

    @app.post("/predict")
    async def predict(files: list[UploadFile]) -> dict[str, Any]:
        for file in files:
            if (file.size or 0) > max_file_mb * 1e6:
                raise HTTPException(413, f"{file.filename} is larger than {max_file_mb:g} MB. Send a smaller image.")
        contents = [(file.filename or "", await file.read()) for file in files]
        # One image per processor at a time: more would wait for each other, and their pixels fill the memory.
        rows = await to_thread.run_sync(lambda: _predict(model.get(), contents), limiter=limiter)
        if all(row["problem"] for row in rows):
            raise HTTPException(422, "; ".join(f"{row['file']}: {row['problem']}" for row in rows))
        return {"predictions": rows}

    return app


def _predict(classifier: ImageClassifier, contents: list[tuple[str, bytes]]) -> list[dict[str, Any]]:
    found = [row._asdict() for row in classifier.predict_each([content for _, content in contents])]
    names = [name for name, _ in contents]
    return [{"file": name} | {k: row[k] for k in row if k != "image"} for name, row in zip(names, found, strict=True)]


def open_socket(host: str, port: int) -> socket.socket:
    """Open the socket to listen at; port 0 takes any free one."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        why = (getattr(error, "strerror", None) or str(error)).partition(" (")[0].rstrip(".")
        raise OSError(f"Cannot listen at {host}, port {port}: {why}. --port 0 takes any free port.") from error


@contextlib.contextmanager
def run_service(folder: str | Path, **limits: Any) -> Iterator[str]:
    """Run the service of a finished model on this computer while a block runs, in a thread of this program.

    Args:
        folder: The finished model.
        **limits: As in `make_app`.

    Yields:
        Its address, such as `http://127.0.0.1:43211`.

    Example:
        >>> with run_service("my_classifier") as url:  # doctest: +SKIP
        ...     print(httpx.get(f"{url}/health").json())
        {'status': 'ok', 'problem': ''}
    """
    with open_socket("127.0.0.1", 0) as listening:
        server = uvicorn.Server(uvicorn.Config(make_app(folder, **limits), log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
