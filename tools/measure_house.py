"""The size of the library, room by room: `python -m tools.measure_house`. The tests hold the limits."""

import ast
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "utils_cv"
TESTS = PACKAGE.parent / "tests"
# 9,500 lines and 220 names held what the library did when it was rebuilt. Whoever adds a function raises them by what
# it needs, after looking for what can go: here for imbalance, stable splits, more tables, many labels, unknown
# images, a model's life after training, and images that do not fit in memory, labeling and looking at errors.
LIMITS = {
    "lines": 15_540,
    "files": 85,
    "public names": 346,
    "lines of the longest file": 400,
    "median lines of a function body": 9,
    "lines of tests": 14_970,
}


def list_modules() -> dict[str, Path]:
    """Every module of the library that holds code: dotted name without `utils_cv.` to file."""
    paths = (path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py")
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in paths}


def measure_house() -> dict[str, int]:
    """Measure what `LIMITS` limits; `__init__.py` files count as files where they hold more than a docstring."""
    paths = list(list_modules().values())
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    lengths = [count_lines(path) for path in paths]
    return {
        "lines": sum(lengths),
        "files": len(paths),
        "public names": sum(len(list(list_public_names(tree))) for tree in trees),
        "lines of the longest file": max(lengths),
        "median lines of a function body": int(statistics.median(n for tree in trees for n in list_body_lengths(tree))),
        "lines of tests": sum(count_lines(path) for path in TESTS.rglob("*.py")),
    }


def count_lines(path: Path) -> int:
    """Lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def list_public_names(tree: ast.Module) -> Iterator[str]:
    """Functions and classes at the top of a module whose names do not begin with an underscore."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def list_body_lengths(tree: ast.Module) -> Iterator[int]:
    """Lines of each function without its signature and docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            yield body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]


def main() -> None:
    """Print the size of each room, then the totals beside their limits."""
    lines, files, names = Counter[str](), Counter[str](), Counter[str]()
    for module, path in list_modules().items():
        room = module.split(".")[0]
        lines[room] += count_lines(path)
        files[room] += 1
        names[room] += len(list(list_public_names(ast.parse(path.read_text(encoding="utf-8")))))
    print(f"{'room':<12} {'lines':>6} {'files':>6} {'names':>6}")
    for room in sorted(lines):
        print(f"{room:<12} {lines[room]:>6} {files[room]:>6} {names[room]:>6}")
    print()
    for what, value in measure_house().items():
        print(f"{what:<34} {value:>6} of {LIMITS[what]}")


if __name__ == "__main__":
    main()
