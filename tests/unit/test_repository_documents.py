"""README, FAQ and other documents: examples that run, numbers that were recorded. `test_build_site.py` has links."""

import re
import shlex
import sys

import pytest

from tests.conftest import ROOT
from tests.notebooks.conftest import make_small_set
from tools.refresh_notebooks import find_recorded
from tools.sourced_numbers import format_number, list_numbers, list_unsourced_numbers
from utils_cv.__main__ import main

WITH_NUMBERS = [ROOT / "README.md", ROOT / "FAQ.md", ROOT / "notebooks/README.md"]
WITH_SOURCES = [*WITH_NUMBERS, ROOT / "benchmarks/README.md"]  # its other numbers are printed by its scripts
# Numbers that are no result of ours, each with its reason.
GIVEN = {
    "Python 3.11": "oldest version that setup.py allows",
    "2 cores": "the machine of the measurements",
    "3 GB": "size of the wheels, a fact of the package index",
    "6.6 GB": "size of an environment, measured once with du",
    "2.0 GB": "size of an environment, measured once with du",
    "Python 3.14": "newest version that CI runs",
    "macOS 14": "what the wheel of ONNX Runtime asks for",
    "95 %": "definition of the intervals",
    "CC0 1.0": "name of a license",
    "Apache-2.0": "name of a license",
    "60 %": "default split, a choice",
    "224 px": "a parameter of notebook 12",
    "20,000 images, or 200,000": "a question",
    "200,000 images one pass": "a number that notebook 31 plans for",
    "128 px": "a parameter of notebook 12",
    "224 minus 128 px": "parameters of notebook 12",
    "8-bit": "name of a number format",
    "8 bits": "name of a number format",
    "32-bit": "name of a number format",
    "seed 0": "a parameter of every notebook",
    "95 of 100 cases": "definition of the intervals",
    "leaves out 0": "the zero of a difference",
    "276 images": "follows from the formula of the paired interval",
    "most certain 80 %": "a choice of notebook 15",
    "With 10 images per class": "a size of the recipe study",
    "With 30 it": "a size of the recipe study",
    "288 px instead of 224": "sizes of the recipe study",
    "288 px": "a size of the recipe study",
    "uint8": "name of a type",
    "(n, size, size, 3)": "a shape",
    "holds 0": "the zero of a difference",
    "2018": "year of a publication",
    "20 %": "the rule that an experiment tests",
    "20,000 images": "a size that readers ask about",
    "4 megapixels": "the rule that an experiment tests",
    "0.5 for all": "the usual threshold",
    "for rare labels 0.5": "the usual threshold",
    "10 times": "the claim that an experiment tests",
}


def read(path):
    return path.read_text(encoding="utf-8")


def test_every_question_is_in_the_table_of_contents():
    text = read(ROOT / "FAQ.md")
    contents, _, answers = text.partition("\n## ")
    questions = re.findall(r"^## (.+\?)$", "## " + answers, re.MULTILINE)
    assert len(questions) >= 9
    for question in questions:
        assert f"[{question}](#" in contents, question


NAMING = "CONTRIBUTING.md AGENTS.md SECURITY.md .github/pull_request_template.md .devcontainer/devcontainer.json"


@pytest.mark.parametrize("name", NAMING.split())
def test_files_and_commands_that_a_document_names_are_there(name):
    words = re.findall(r"`([^`\s]+)`", read(ROOT / name))
    paths = [word for word in words if re.fullmatch(r"[\w.-]+(/[\w.-]+)*(/|\.(py|md|cff|txt|yml|yaml))", word)]
    paths = [path for path in paths if not re.search("[A-Z]{4}/|^NAME", path)]
    bases = [ROOT, ROOT / "utils_cv", ROOT / "tests"]
    assert [path for path in paths if not any((base / path).exists() for base in bases)] == []
    targets = set(re.findall(r"[`\"]make (\w+)", read(ROOT / name)))
    assert targets <= set(re.findall(r"^(\w+):", read(ROOT / "Makefile"), re.MULTILINE))


@pytest.mark.parametrize("path", WITH_SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_numbers_are_those_that_notebooks_and_benchmarks_recorded(path):
    numbers = list_numbers(read(path))
    assert numbers or path not in WITH_NUMBERS
    for number in numbers:
        recorded = find_recorded(ROOT / "notebooks", number.source)
        expected = format_number(recorded, number.source, number.key, number.spec)
        assert number.shown == expected, f"{path.name}: {number}; run make refresh"


@pytest.mark.parametrize("path", WITH_NUMBERS, ids=lambda path: path.name if path.parent == ROOT else "notebooks")
def test_no_number_is_typed_by_hand(path):
    assert list_unsourced_numbers(read(path), GIVEN) == []


@pytest.mark.parametrize("path", WITH_SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_line_begins_with_a_comment_that_would_make_it_html(path):
    assert not re.search(r"^<!--[\w/]+\.\w+", read(path), re.MULTILINE)


README = read(ROOT / "README.md")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, code in BLOCKS for line in code.splitlines() if kind == "bash"]


@pytest.fixture(scope="module")
def example_dir(tmp_path_factory):
    """A folder as a reader of the README has it: `my_images` with a folder for each class."""
    folder = tmp_path_factory.mktemp("reader")
    make_small_set("fridge_objects", folder / "my_images")
    (folder / "my_images/labels.csv").unlink()
    return folder


@pytest.mark.parametrize("example", [code for kind, code in BLOCKS if kind == "python"], ids=lambda code: "")
def test_examples_of_the_readme_run_twice(example, example_dir, monkeypatch, capsys):
    monkeypatch.chdir(example_dir)
    for _ in range(2):
        exec(compile(example, "README example", "exec"), {"__name__": "example"})
        assert capsys.readouterr().out.strip(), "an example shows something"


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line.partition("#")[0].strip())
def test_commands_of_the_readme_run_twice_and_name_what_is_there(line, example_dir, monkeypatch):
    """Our commands run, in short; those that install, or wait, are read: the targets, extras and files they name."""
    words = shlex.split(line, comments=True)
    short = {"report": ["--recipe", "probe"], "run": ["--list-parameters"]}
    monkeypatch.chdir(ROOT if "run" in words else example_dir)
    if words[:3] == ["python", "-m", "utils_cv"] and words[3] != "serve":
        for _ in range(2):
            assert main([*words[3:], *short.get(words[3], [])]) == 0
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", read(ROOT / "Makefile"), re.MULTILINE)
    else:
        assert words[0] in ("git", "python", "source", "pip", "jupyter", "conda")
        assert all(f'"{extra}": ' in read(ROOT / "setup.py") for extra in re.findall(r"\.\[(\w+)\]", line))
        assert all((ROOT / word).exists() for word in words if re.search(r"\.(yml|ipynb|txt)$", word))


def test_the_readme_is_read_in_five_minutes():
    text = re.sub(r"^\|[^\n]*|<!--.*?-->|^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
    assert 600 < len(text.split()) <= 1100 and len(COMMANDS) >= 10


IMPORTED = re.compile(r"^ *(?:from (?=\S+ import)|import )(\w+)", re.MULTILINE)
HELPERS = dict(re.findall(r"^\| `utils_cv/(\w+)`.*\| (.+) \|$", README, re.MULTILINE))


@pytest.mark.parametrize("room", HELPERS)
def test_helpers_to_copy_need_what_the_table_says(room):
    words = HELPERS[room].replace("those of `system`", HELPERS["system"]).split(", ")
    found = {word for path in (ROOT / "utils_cv" / room).glob("*.py") for word in re.findall(IMPORTED, read(path))}
    found -= {*sys.stdlib_module_names, "utils_cv", "torch", "pillow_heif"}  # the last two only where they are there
    needs = {word.split()[-1].lower().replace("scikit-learn", "sklearn").replace("pillow", "pil") for word in words}
    assert {name.lower() for name in found} <= needs and len(HELPERS) == 4
