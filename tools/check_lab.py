"""Open every notebook in JupyterLab and headless Chromium: `python -m tools.check_lab --playwright FOLDER`.

FOLDER is where `npm install playwright-core` was run. Copies of the notebooks lie in outputs/lab; each is opened, left
alone and closed. Fails where JupyterLab takes one for changed, or a file on the disk differs from the one committed.
One more copy was executed with another Python: that is noticed, but to save it changes nothing (`lab_config.py`).
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from utils_cv.system.files import hash_file

ROOT = Path(__file__).resolve().parents[1]
OUT_DIR = ROOT / "outputs" / "lab"
PORT = 8765
CONFIG = Path(__file__).with_name("lab_config.py")
OTHER = "other_python.ipynb"
SERVER = ("--no-browser", "--ip=127.0.0.1", f"--port={PORT}", "--ServerApp.port_retries=0", "--IdentityProvider.token=")
SETTINGS = ("--LabApp.expose_app_in_browser=True", "--allow-root")  # the page then tells whether a notebook is changed


def main() -> None:
    """Copy the notebooks, open them, print what was found, and fail where one was changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--playwright", type=Path, required=True, help="folder with node_modules/playwright-core")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the program of the browser")
    options = parser.parse_args()
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    shutil.rmtree(OUT_DIR, ignore_errors=True)
    OUT_DIR.mkdir(parents=True)
    for path in notebooks:
        shutil.copyfile(path, OUT_DIR / path.name)
    content = json.loads(notebooks[0].read_text(encoding="utf-8"))
    content["metadata"]["language_info"]["version"] = "3.0.0"
    other = json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    (OUT_DIR / OTHER).write_text(other, encoding="utf-8")
    job = {
        "playwright": str(options.playwright.resolve()), "chromium": options.chromium,
        "address": f"http://127.0.0.1:{PORT}/lab", "notebooks": [path.name for path in notebooks] + [OTHER],
        "saved": OTHER,
    }  # fmt: skip
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        *SERVER,
        *SETTINGS,
        f"--config={CONFIG}",
        f"--notebook-dir={OUT_DIR}",
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        script = Path(__file__).with_suffix(".mjs")
        done = subprocess.run(["node", script, json.dumps(job)], stdout=subprocess.PIPE, text=True)
    finally:
        server.terminate()
        server.wait()
    if done.returncode:
        raise SystemExit("The browser failed.")
    states = json.loads(done.stdout)
    differ = [path.name for path in notebooks if hash_file(path) != hash_file(OUT_DIR / path.name)]
    for name, is_changed in states.items():
        print(name, "changed" if is_changed else "as it was")
    if (OUT_DIR / OTHER).read_text(encoding="utf-8") != other:
        differ.append(OTHER)
    changed = [name for name, is_changed in states.items() if is_changed and name != OTHER]
    if changed or differ or len(states) <= len(notebooks):
        raise SystemExit(f"Changed by opening: {changed}; on the disk: {differ}; opened: {len(states)}.")


if __name__ == "__main__":
    main()
