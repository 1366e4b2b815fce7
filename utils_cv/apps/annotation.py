"""A page on this computer to label images, and to correct labels; every choice is in a CSV file before the next image.

The page listens at 127.0.0.1 only, and its address holds a secret that other pages do not know. Images stay where they
are. What the file says in the end, `utils_cv.data.image_table.load_image_table` loads as an image table.
"""

import getpass
import hmac
import http.server
import json
import secrets
import sys
import threading
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np

from utils_cv.data.choices import KINDS, append_choices, load_choices, name_image
from utils_cv.data.images import ImageError, find_value_range
from utils_cv.data.labels import LABEL_SEPARATOR, list_class_names, normalize_name

from .pages import encode_thumbnail, read_page_file

PAGE_DIR = Path(__file__).parent / "annotation_page"
SIZES_PX = {"small": 256, "large": 1280}
MAX_BYTES = 1_000_000  # of a request: some 20,000 choices at once
N_GRID = 24  # images that the page shows at once
_FILES = {"": ("index.html", "html"), "page.js": ("page.js", "javascript"), "style.css": ("style.css", "css")}
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Content-Security-Policy": _POLICY}


def sort_by_likeness(features: np.ndarray, *, n_grid: int = N_GRID) -> np.ndarray:
    """Sort images so that each `n_grid` of them, which the page shows at once, look alike.

    The images are halved again and again along the direction in which they differ most, until a grid holds a part.

    Args:
        features: (n_images, n_features), as `utils_cv.models.features.compute_features` gives them. Images without
            features (NaN), which cannot be opened, come last.
        n_grid: Images in a grid.

    Returns:
        The positions of the images in their new order, (n_images,).

    Example:
        >>> sort_by_likeness(np.array([[0.0, 1.0], [5.0, 0.0], [0.1, 1.0], [5.0, 0.1]]), n_grid=2).tolist()
        [0, 2, 3, 1]
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import normalize

    def halve(rows: np.ndarray) -> list[int]:
        if len(rows) <= n_grid:
            return rows.tolist()
        with np.errstate(invalid="ignore"):  # copies of one image
            along = PCA(1, svd_solver="randomized", random_state=0).fit_transform(units[rows])[:, 0]
        rows, n_first = rows[np.argsort(along, kind="stable")], (len(rows) + n_grid) // (2 * n_grid) * n_grid
        return halve(rows[:n_first]) + halve(rows[n_first:])

    known = np.flatnonzero(np.isfinite(features).all(axis=1))
    units = np.zeros(features.shape, np.float32)
    if len(known):
        units[known] = normalize(features[known] - features[known].mean(axis=0))
    order = halve(known)
    return np.array(order + sorted(set(range(len(units))) - set(order)), int)


class AnnotationServer(http.server.ThreadingHTTPServer):
    """A page at `url` to label images, or to correct labels; every choice is in a CSV file before the next image.

    Only this computer can open the page. Show it in JupyterLab with `IFrame(server.url, "100%", 700)`, or open `url` in
    a browser. Other programs may write to the same file at the same time.

    Args:
        paths: The images, in the order in which they are shown. What cannot be opened is passed over and counted.
        csv_path: The file that choices are appended to; the folder is made. The next program goes on where it ends.
        class_names: The classes; others can be added on the page, and are read from the file.
        labels: Labels so far, one for each image, to keep or correct. Default: there are none.
        several: Whether an image may have several labels.
        annotator: Who labels, unless the page is told another name. Default: the name of the user.

    Raises:
        FileExistsError: The file exists and holds something else.
        ValueError: There are no images, not as many labels as images, or a class holds the sign `|`.

    Example:
        >>> server = AnnotationServer(table["path"], "labels.csv", ["can", "jar"]).start()  # doctest: +SKIP
        >>> table = load_image_table("labels.csv")  # doctest: +SKIP
    """

    daemon_threads = True

    def __init__(
        self,
        paths: Iterable[str | Path],
        csv_path: str | Path,
        class_names: Iterable[str] = (),
        *,
        labels: Iterable[str] = (),
        several: bool = False,
        annotator: str = "",
    ) -> None:
        self.paths, self.csv_path = [Path(path).absolute() for path in paths], Path(csv_path).expanduser().absolute()
        self.given, self.class_names = list(labels) or [""] * len(self.paths), [normalize_name(n) for n in class_names]
        if bad := [name for name in self.class_names if not name or LABEL_SEPARATOR in name]:
            raise ValueError(f"Got the class {bad[0]!r}. Give each class by itself, without {LABEL_SEPARATOR!r}.")
        if not self.paths:
            raise ValueError("There are no images to label. Expected at least one.")
        if len(self.given) != len(self.paths):
            raise ValueError(f"Got {len(self.paths)} images and {len(self.given)} labels; expected one for each image.")
        self.csv_path.parent.mkdir(parents=True, exist_ok=True)
        append_choices(self.csv_path, [], "")  # says now if the file cannot be written
        self.cells = [name_image(path, self.csv_path.parent) for path in self.paths]
        self.several, self.annotator = several, normalize_name(annotator) or getpass.getuser()
        self.value_range, self.token = find_value_range(self.paths), secrets.token_urlsafe(16)
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/{self.token}/"

    def start(self) -> Self:
        """Answer in a thread of this program, until `close`, or until Python ends."""
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def close(self) -> None:
        """Stop answering; the choices are in the file."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about browsers that go on to the next image before one is sent."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def describe(self, annotator: str) -> dict[str, Any]:
        """What the page shows: images, classes, and the choices of one person."""
        annotator = normalize_name(annotator) or self.annotator
        choices, place_of = load_choices(self.csv_path), {cell: i for i, cell in enumerate(self.cells)}
        n_torn, used = len(choices.attrs["torn"]), list_class_names(choices)
        choices = choices.assign(place=choices["image"].map(place_of)).dropna(subset="place").astype({"place": int})
        own, is_first = choices[choices["annotator"] == annotator], ~choices.duplicated(["image", "annotator"])
        last = own.drop_duplicates("image", keep="last")
        return {
            "names": [normalize_name(cell) for cell in self.cells],
            "given": self.given,
            "several": self.several,
            "annotator": annotator,
            "classes": list(dict.fromkeys([*self.class_names, *used])),
            "choices": last[["place", "label", "kind"]].to_numpy().tolist(),
            "actions": [[time, rows.tolist()] for time, rows in own.groupby("time", sort=False)["place"]],
            "people": choices["annotator"][is_first].value_counts().to_dict(),
            "n_torn": n_torn,
        }

    def save(self, content: Any) -> dict[str, str]:
        """Append what the page sent, and tell its time; a ValueError says what is wrong with it."""
        annotator = content.get("annotator") if isinstance(content, dict) else None
        if not isinstance(annotator, str) or not annotator.isprintable() or not 0 < len(annotator.strip()) <= 60:
            raise ValueError("Expected the name of a person: 1 to 60 letters.")
        annotator = normalize_name(annotator)  # a letter may be typed in two ways: it is one person, and one class
        if isinstance(time := content.get("undo"), str) and len(time) < 40:
            return {"time": append_choices(self.csv_path, [("", time, "undo")], annotator)}
        rows = content.get("choices")
        if not rows or not isinstance(rows, list) or not all(map(self._is_choice, rows)):
            names = "label: no blanks around it, only to join several ones '|'"
            raise ValueError(f"Expected choices, each an image, a label and a kind of {KINDS[:-1]}; {names}.")
        made = [
            (self.cells[i], LABEL_SEPARATOR.join(map(normalize_name, text.split(LABEL_SEPARATOR))), kind)
            for i, text, kind in rows
        ]
        return {"time": append_choices(self.csv_path, made, annotator)}

    def _is_choice(self, row: Any) -> bool:
        if not (isinstance(row, list) and [type(cell) for cell in row] == [int, str, str]):
            return False
        place, text, kind = row
        names = text.split(LABEL_SEPARATOR) if text else []
        n_most = {"label": 1, "labels": 100, "none": 0, "unclear": 0}.get(kind, -1)
        is_name = all(normalize_name(name) and name == name.strip() and len(name) <= 100 for name in names)
        return 0 <= place < len(self.cells) and is_name and min(n_most, 1) <= len(names) <= n_most

    def draw(self, place: int, size_px: int) -> bytes:
        """Open an image as JPEG for the page; what cannot be opened is an ImageError."""
        return encode_thumbnail(self.paths[place], size_px, self.value_range, format="JPEG", quality=88)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: AnnotationServer
    timeout = 30

    def do_GET(self) -> None:
        path, _, query = self._find_path().partition("?")
        match path.split("/"):
            case [name] if name in _FILES:
                name, kind = _FILES[name]
                self._answer(200, read_page_file(PAGE_DIR / name), f"text/{kind}; charset=utf-8")
            case ["state"]:
                annotator = dict(urllib.parse.parse_qsl(query)).get("annotator", "")
                self._answer(200, self.server.describe(annotator))
            case ["image", place, size] if (
                place.isdecimal() and int(place) < len(self.server.paths) and size in SIZES_PX
            ):
                try:
                    picture = self.server.draw(int(place), SIZES_PX[size])
                    self._answer(200, picture, "image/jpeg", "private, max-age=600")
                except ImageError as error:
                    self._answer(422, error.cause)
            case _:
                self._answer(404, "There is no such page.")

    def do_POST(self) -> None:
        length, kind = self.headers.get("Content-Length", ""), self.headers.get_content_type()
        host = self.headers["Host"]
        is_ours = kind == "application/json" and self.headers.get("Origin", f"http://{host}") == f"http://{host}"
        if self._find_path() != "choices" or not is_ours:
            self._answer(403, "Only the page itself may save choices.")
        elif not length.isdecimal() or int(length) > MAX_BYTES:
            self._answer(413, f"Expected at most {MAX_BYTES} bytes.")
        else:
            try:
                self._answer(200, self.server.save(json.loads(self.rfile.read(int(length)))))
            except ValueError as error:  # also of json, and of bytes that are no text
                self._answer(400, str(error))
            except OSError as error:  # such as a full disk
                self._answer(500, f"{self.server.csv_path.name}: {error.strerror or error}.")

    def _find_path(self) -> str:
        """The path below the secret, or one that does not exist if the secret or the host is not ours."""
        token, _, path = self.path[1:].partition("/")
        is_known = hmac.compare_digest(token.encode(), self.server.token.encode())
        host = (self.headers["Host"] or "").partition(":")[0]  # another name may lead here, too
        return path if is_known and host in ("127.0.0.1", "localhost") else "nowhere"

    def _answer(self, status: int, content: Any, kind: str = "", cache: str = "no-store") -> None:
        """Send bytes as they are, a text as text, and anything else as JSON."""
        if not isinstance(content, bytes):
            kind = "text/plain; charset=utf-8" if isinstance(content, str) else "application/json"
            content = (content if isinstance(content, str) else json.dumps(content)).encode(errors="replace")
        self.send_response(status)
        facts = {"Content-Type": kind, "Content-Length": str(len(content)), "Cache-Control": cache}
        for name, value in (facts | _HEADERS).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""
