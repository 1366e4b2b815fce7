"""What `make site` does: a site of the executed notebooks, the documents and the docstrings. Nothing is executed.

README becomes the front page, FAQ a page for each question, the library a page for each room, with what notebooks and
documents call. Sphinx builds the pages. Then they are checked: links, alternative texts, and that nothing is fetched
from elsewhere. With a repository (`--repository`, `GITHUB_REPOSITORY`) notebooks link to Colab, Kaggle, Codespaces.
"""

import argparse
import ast
import functools
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat

from tools.hosted import TAG
from tools.measure_house import PACKAGE, list_modules

ROOT = Path(__file__).resolve().parents[1]
# Documents and their pages; other files that documents link to are copied, and can be downloaded.
PAGES = {
    "README.md": "index.md",
    "FAQ.md": "faq/index.md",
    "notebooks/README.md": "notebooks/index.md",
    "data/README.md": "data/index.md",
    "data/renderer/README.md": "data/renderer/index.md",
    "benchmarks/README.md": "benchmarks/index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "AGENTS.md": "agents.md",
}
_SOURCE_OF_NUMBER = re.compile(r"<!--.*?-->", re.DOTALL)
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_STYLE = re.compile(r"<style.*?</style>", re.DOTALL)
_FENCED_CODE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
_TREE = "\n```{{toctree}}\n:hidden:\n:caption: {}\n\n{}\n```\n"


def build_site(out_dir: Path, notebooks: Sequence[Path], repository: str = "") -> list[str]:
    """Replace `out_dir` by the site that Sphinx builds of the pages, and list what is wrong with it."""
    from sphinx.cmd.build import main as run_sphinx

    source_dir, cache_dir = (out_dir.with_name(f"{out_dir.name}_{part}") for part in ("source", "cache"))
    for folder in (source_dir, out_dir):
        shutil.rmtree(folder, ignore_errors=True)
    write_pages(source_dir, notebooks, repository)
    if run_sphinx(["-q", "-W", "--keep-going", "-d", str(cache_dir), str(source_dir), str(out_dir)]):
        return ["Sphinx reported the problems above."]
    return check_pages(out_dir)


def write_pages(source_dir: Path, notebooks: Sequence[Path], repository: str) -> None:
    """Write what Sphinx reads: pages, notebooks, settings, and the files that pages link to."""
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}
    start, *answers = re.split(r"^(?=## )", texts["FAQ.md"], flags=re.MULTILINE)
    questions = {make_anchor(text.partition("\n")[0]): text.replace("## ", "# ", 1) for text in answers}
    rooms = write_room_pages([*(path.read_text(encoding="utf-8") for path in notebooks), *texts.values()])
    pages = {PAGES[name]: clean_text(text, name, PAGES[name]) for name, text in (texts | {"FAQ.md": start}).items()}
    pages |= {f"faq/{name}.md": clean_text(text, "FAQ.md", f"faq/{name}.md") for name, text in questions.items()}
    pages |= {f"api/{room}.md": text for room, text in rooms.items()}
    trees = {
        "Notebooks": ["notebooks/index", *(f"notebooks/{path.stem}" for path in notebooks)],
        "Questions": ["faq/index", *(f"faq/{name}" for name in questions)],
        "Library": [f"api/{room}" for room in rooms],
        "Project": [page.removesuffix(".md") for page in list(PAGES.values())[3:]],
    }
    pages["index.md"] += "".join(_TREE.format(caption, "\n".join(tree)) for caption, tree in trees.items())
    for page, text in pages.items():
        (source_dir / page).parent.mkdir(parents=True, exist_ok=True)
        (source_dir / page).write_text(text, encoding="utf-8")
    figures = re.findall(r"!\[([^\]]+)\]\(\S*?([^/\s]+)\)", "".join(texts.values()))
    for path in notebooks:
        notebook = make_notebook_page(path, {file: words for words, file in figures}, repository)
        nbformat.write(notebook, source_dir / "notebooks" / path.name)
    for path in (ROOT / "docs").iterdir():
        shutil.copy(path, source_dir)
    _copy_linked_files(source_dir)


def _copy_linked_files(source_dir: Path) -> None:
    for page in [*source_dir.rglob("*.md"), *source_dir.rglob("*.ipynb")]:
        for target in _LINK.findall(page.read_text(encoding="utf-8")):
            copy = Path(os.path.normpath(page.parent / target.partition("#")[0]))
            original = ROOT / os.path.relpath(copy, source_dir)
            if not urlsplit(target).scheme and original.is_file() and not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(original, copy)


def make_anchor(heading: str) -> str:
    """Make the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def clean_text(text: str, document: str, page: str) -> str:
    """Drop the sources of numbers and point links to pages of the site; code stays as it is.

    Example:
        >>> clean_text("<!--01.n-->160<!--/--> [images](data/README.md#kinds)", "README.md", "index.md")
        '160 [images](data/index.md#kinds)'
    """
    parts = _FENCED_CODE.split(text)
    for i in range(0, len(parts), 2):
        shown = _SOURCE_OF_NUMBER.sub("", parts[i])
        parts[i] = _LINK.sub(lambda match: move_link(match[1], document, page), shown)
    return "".join(parts)


def move_link(target: str, document: str, page: str) -> str:
    """Translate the target of a link in a document into one for its page.

    Example:
        >>> move_link("../FAQ.md#how-many-images-do-i-need", "notebooks/01.ipynb", "notebooks/01.ipynb")
        '../faq/how-many-images-do-i-need.md'
    """
    name, _, anchor = target.partition("#")
    if urlsplit(target).scheme:
        return target
    file = Path(os.path.normpath(Path(document).parent / name)).as_posix() if name else document
    if (ROOT / file).is_dir():
        file += "/README.md"
    if file == "FAQ.md" and anchor:
        file, anchor = f"faq/{anchor}.md", ""
    moved = os.path.relpath(PAGES.get(file, file), Path(page).parent)
    return Path(moved).as_posix() + (f"#{anchor}" if anchor else "")


def make_notebook_page(path: Path, figures: Mapping[str, str], repository: str) -> nbformat.NotebookNode:
    """Make a notebook ready for the site; `figures` has the alternative text of each exported figure."""
    notebook, name = nbformat.read(path, as_version=4), f"notebooks/{path.name}"
    notebook.cells = [cell for cell in notebook.cells if TAG not in cell.metadata.get("tags", [])]
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            cell.source = clean_text(cell.source, name, name)
            continue
        for output in cell.outputs:  # of each the best form; a frame shows a page that runs only with the notebook
            forms = output.get("data", {})
            best = [form for form in ("image/png", "text/html", "text/plain") if form in forms][:1]
            shown = {form: _STYLE.sub("", forms[form]) for form in best}  # tables take the colors of the site
            output.update({"data": shown} if forms else {})
        cell.outputs = [one for one in cell.outputs if "<iframe" not in one.get("data", {}).get("text/html", "")]
        files = [f"{path.stem[:2]}_{tag.removeprefix('figure-')}.png" for tag in cell.metadata.get("tags", [])]
        words = next((figures[file] for file in files if file in figures), None)
        cell.metadata["mystnb"] = {"image": {"alt": words or describe_figure(notebook.cells[: i + 1])}}
    if repository:
        at = f"{repository}/blob/main/{name}"
        notebook.cells[0].source += (
            f"\n\nRun it: [Colab](https://colab.research.google.com/github/{at}) · [Kaggle](https://kaggle.com/kernels/"
            f"welcome?src=https://github.com/{at}) · [Codespaces](https://codespaces.new/{repository})"
        )
    return notebook


def describe_figure(cells: Sequence[nbformat.NotebookNode]) -> str:
    """Say what the figure of the last cell shows: the heading of its section, and what its plot function draws."""
    texts = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    heading = re.sub(r"^#+ (\d+\S* )?|[*`]", "", re.findall(r"^#+ .*", texts, re.MULTILINE)[-1])
    drawn = [words for name, words in _list_plots().items() if re.search(rf"\b{name}\(", cells[-1].source)]
    labels = re.findall(r'\w_label="([^"{]+)"', cells[-1].source)
    return ": ".join([heading, *drawn[:1]]) + (f" ({', '.join(labels)})" if labels else "")


@functools.cache
def _list_plots() -> dict[str, str]:
    """List what each plot function draws, in the words of its docstring."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in list_modules().values()]
    plots = [node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]
    lines = {node.name: ast.get_docstring(node) or "" for node in plots if node.name.startswith("plot_")}
    return {
        name: re.split(r"[.:;(]|, (?:with|or|the)\b", re.sub(r"^(Draw|Show) ", "", line))[0].strip()
        for name, line in lines.items()
    }


def write_room_pages(texts: Sequence[str]) -> dict[str, str]:
    """Write a page for each room of the library, with the functions and classes that notebooks and documents name."""
    words = set(re.findall(r"\w+", " ".join(texts)))
    rooms: dict[str, list[str]] = {}
    for module, path in sorted(list_modules().items()):
        nodes = ast.parse(path.read_text(encoding="utf-8")).body
        named = [node for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name in words]
        if named:
            room = module.split(".")[0]
            start = PACKAGE / room / "__init__.py"
            about = ast.get_docstring(ast.parse(start.read_text(encoding="utf-8"))) if start.exists() else ""
            page = rooms.setdefault(room, [f"# {room}", "", about or ""])
            page += ["", f"## {module}", "", "```{eval-rst}", f".. automodule:: utils_cv.{module}", ""]
            kinds = ["class" if isinstance(node, ast.ClassDef) else "function" for node in named]
            for kind, node in zip(kinds, named, strict=True):
                page += [f".. auto{kind}:: utils_cv.{module}.{node.name}", "   :members:" * (kind == "class"), ""]
            page.append("```")
    return {room: "\n".join(page) for room, page in rooms.items()}


class _Tags(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.anchors = {tag[name] for _, tag in self.tags for name in ("id", "name") if name in tag}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))


def check_pages(site_dir: Path) -> list[str]:
    """List links that lead nowhere, figures without an alternative text, and what is fetched from elsewhere."""
    pages = {path: _Tags(path) for path in sorted(site_dir.rglob("*.html"))}
    problems = []
    for path, page in pages.items():
        for tag, given in page.tags:
            if tag == "img" and not given.get("alt", "").strip():
                problems.append(f"{path}: no alternative text: {given.get('src')}")
            address = given.get("href") if tag in ("a", "link") else given.get("src")
            if address is None or address.startswith("data:"):
                continue
            if urlsplit(address).scheme or address.startswith("//"):
                problems += [f"{path}: fetched from elsewhere: {address}"] * (tag != "a")
                continue
            name, _, anchor = unquote(address).partition("#")
            file = Path(os.path.normpath(path.parent / name.partition("?")[0])) if name else path
            if not file.is_file() or (anchor and file in pages and anchor not in pages[file].anchors):
                problems.append(f"{path}: leads nowhere: {address}")
    for path in site_dir.rglob("*.css"):
        addresses = re.findall(r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"')]+)", path.read_text(encoding="utf-8"))
        problems += [f"{path}: fetched from elsewhere: {address}" for address in addresses]
    return sorted(set(problems))


def main(arguments: list[str] | None = None) -> int:
    """Run `python -m tools.build_site`."""
    parser = argparse.ArgumentParser(prog="python -m tools.build_site", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "outputs/site", help="folder of the site")
    parser.add_argument("--repository", default=os.environ.get("GITHUB_REPOSITORY", ""), help="owner/name on GitHub")
    options = parser.parse_args(arguments)
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    problems = build_site(options.out.resolve(), notebooks, options.repository)
    print("\n".join(problems) or f"The site is ready: open {options.out / 'index.html'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
