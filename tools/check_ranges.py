"""Whether the ranges of setup.py can be met on every system, and beside other projects: `python -m tools.check_ranges`.

Needs uv, setuptools and a network; installs nothing. Every answer is a resolution with wheels only.
"""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from runpy import run_path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SYSTEMS = {"linux": "x86_64-manylinux_2_28", "windows": "windows", "macos": "macos"}
PEERS = ("gradio", "mlflow", "fiftyone")


def list_requirements(extra: str) -> str:
    """Return the requirements of setup.py with those of an extra, a line for each."""
    with mock.patch("setuptools.setup") as setup:
        run_path(str(ROOT / "setup.py"))
    return "\n".join([*setup.call_args.kwargs["install_requires"], *setup.call_args.kwargs["extras_require"][extra]])


def resolve(requirements: str, *arguments: str) -> dict[str, str] | str:
    """Return the versions that uv selects, or what it says when there are none."""
    wheels_only = ["--only-binary", ":all:", "--quiet", "--no-header", "--no-annotate"]
    command = ["uv", "pip", "compile", *wheels_only, *arguments, "-"]
    # ONNX Runtime's wheels for the newest Python begin with macOS 14.
    env = os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"}
    done = subprocess.run(command, input=requirements, capture_output=True, text=True, check=False, env=env)
    return dict(re.findall(r"^([\w.-]+)==(\S+)", done.stdout, re.MULTILINE)) if not done.returncode else done.stderr


def list_faults() -> list[str]:
    """Resolve everything for each Python and system, then the notebooks beside each other project."""
    faults = []
    for python, (system, platform) in itertools.product(PYTHONS, SYSTEMS.items()):
        found = resolve(list_requirements("dev"), "--python-version", python, "--python-platform", platform)
        if isinstance(found, str):
            faults.append(f"Python {python} on {system}: {found}")
    for peer in PEERS:
        alone = resolve(peer)
        beside = resolve(f"{peer}\n{list_requirements('notebooks')}")
        if isinstance(alone, str) or isinstance(beside, str) or alone[peer] != beside[peer]:
            faults.append(f"{peer} beside the notebooks: {beside}; alone: {alone}")
    return faults


if __name__ == "__main__":
    found_faults = list_faults()
    print("\n".join(found_faults) or f"All can be installed, beside {', '.join(PEERS)} too.")
    sys.exit(bool(found_faults))
