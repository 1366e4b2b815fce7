"""The rule of the rooms: a file imports from lower rooms, or relatively from its own; ground rooms can be copied."""

import ast
import os
import re
import shutil
import subprocess
import sys

import pytest

from tools.measure_house import PACKAGE, list_modules

# From the ground up; rooms of one floor do not know each other.
FLOORS = (
    ("system", "evaluation", "plots", "notebooks"),
    ("data",),
    ("models",),
    ("training", "audit"),
    ("apps",),
    ("studies",),
    ("__main__",),
)
FLOOR_OF = {room: i for i, floor in enumerate(FLOORS) for room in floor}
GROUND = FLOORS[0][:3]
MODULES = list_modules()
# Rooms that a program without torch may import, and what they must not bring along.
LIGHT_ROOMS = ("system", "evaluation", "plots", "data", "audit", "notebooks")
HEAVY = {"torch", "fastai", "timm", "torchvision"}


def list_imports(module):
    """Yield the modules of utils_cv that a module imports, as tuples of names, inside functions too."""
    own = tuple(module.split("."))
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (tuple(a.name.split(".")[1:]) for a in node.names if a.name.split(".")[0] == "utils_cv")
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "utils_cv"):
            base = own[: len(own) - node.level] if node.level else ()
            names = (node.module or "").split(".") if node.level else node.module.split(".")[1:]
            path = base + tuple(name for name in names if name)
            yield from ([path] if ".".join(path) in MODULES else [(*path, alias.name) for alias in node.names])


@pytest.mark.parametrize("module", MODULES)
def test_imports_come_from_lower_rooms_or_the_own_one(module):
    room = module.split(".")[0]
    for path in list_imports(module):
        if path[0] != room:
            assert FLOOR_OF[path[0]] < FLOOR_OF[room], f"{module} imports {'.'.join(path)}"


@pytest.mark.parametrize("module", MODULES)
def test_imports_inside_a_room_are_relative(module):
    room = module.split(".")[0]
    if "." in module:
        assert f"utils_cv.{room} import" not in MODULES[module].read_text(encoding="utf-8")
        assert f"from utils_cv.{room}." not in MODULES[module].read_text(encoding="utf-8").replace(">>> from", ">>>")


def test_no_ring_inside_a_room():
    open_ones = {m: {".".join(p) for p in list_imports(m)} & set(MODULES) for m in MODULES}
    while ready := [m for m, needs in open_ones.items() if not needs & set(open_ones)]:
        for module in ready:
            del open_ones[module]
    assert not open_ones, "these modules import each other in a ring"


def test_fastai_is_imported_by_its_adapter_and_callbacks_alone():
    found = {module for module in MODULES if re.search("^ *(from|import) fastai", MODULES[module].read_text(), re.M)}
    assert found == {"training.learner", "training.callbacks"}


@pytest.mark.parametrize("path", sorted((PACKAGE.parent / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_benchmarks_import_what_is_there(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        module = getattr(node, "module", None) or ""
        if (source := MODULES.get(module.removeprefix("utils_cv."))) and module.startswith("utils_cv."):
            text = source.read_text(encoding="utf-8")
            assert all(re.search(rf"^((def|class) )?{a.name}\b|^[A-Z_, ]+, {a.name}\b", text, re.M) for a in node.names)


def run(code, cwd, **variables):
    env = os.environ | {"PYTHONPATH": str(cwd)} | variables
    return subprocess.run([sys.executable, *code], cwd=cwd, env=env, capture_output=True, text=True)


def test_copied_rooms_work_under_other_names(tmp_path):
    for rooms in [*([room] for room in GROUND), ["data", "system"]]:
        project = tmp_path / f"my_{rooms[0]}"
        project.mkdir()
        (project / "__init__.py").touch()
        for room in rooms:
            shutil.copytree(PACKAGE / room, project / room, ignore=shutil.ignore_patterns("__pycache__"))
            for path in (project / room).rglob("*.py"):  # an example shows the name of this package
                text = path.read_text(encoding="utf-8")
                path.write_text(text.replace(">>> from utils_cv.", f">>> from {project.name}."), encoding="utf-8")
    # The repository is not on the path: an import of utils_cv would fail.
    block = "import sys; sys.modules['utils_cv'] = None; import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    done = run(["-c", block, "--doctest-modules", "-q", "-p", "no:cacheprovider", "."], tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_light_rooms_import_no_torch():
    modules = [f"utils_cv.{module}" for module in MODULES if module.split(".")[0] in LIGHT_ROOMS]
    modules += [f"utils_cv.models.{name}" for name in ("features", "linear_heads", "out_of_fold")]
    modules += ["utils_cv.training.linear_probe"]
    code = f"import sys, {', '.join(modules)}; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = run(["-c", code], PACKAGE.parent)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr[-1000:]
