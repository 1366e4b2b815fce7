"""The card of a finished model: what it is, how good it is, how it is used and where it ends, in Markdown."""

import re
from pathlib import Path
from typing import Any

from .model_files import CARD_NAME, INT8_NAME, ONNX_NAME, ModelInfo

_CARD = """\
---
{front_matter}
---

# {title}

An image classifier that gives each image {kind} {n_classes} labels: {class_names}.{trained} The network is \
{info.backbone} with a linear head{weights}. It takes square images of {info.im_size_px} px, which \
`fit={info.fit!r}` makes.

## Scores

{scores}

## Use

```python
from {module} import load_classifier

classifier = load_classifier("path/to/this/folder")
classifier.predict_labels(["image.jpg"])
```{int8}
{rejection}
## Limits

- The scores hold for images like those they were measured on. On images that look different they can be far lower.
- {unknown}
- The hashes in `model.json` detect damaged and mixed-up files. They do not protect against somebody who replaces the \
file and its hash.

## Made with

{versions}.
"""


def make_model_card(info: ModelInfo, *, title: str, license: str = "other") -> str:
    """Write a model card in Markdown, with the front matter that the Hugging Face Hub reads."""
    n_train = info.training.get("n_train")
    return _CARD.format(
        front_matter=_make_front_matter(info, title, license),
        module=f"{__package__}.saved_classifier",
        title=_escape(title),
        kind="any number of" if info.is_multilabel else "one of",
        n_classes=len(info.class_names),
        class_names=", ".join(map(_escape, info.class_names)),
        trained="" if n_train is None else f" It was trained on {n_train} images.",
        info=info,
        weights=info.weights_license and f", trained from weights under this license: {_escape(info.weights_license)}",
        scores=_list_scores(info.scores),
        int8='\n\nThe 8-bit network is loaded by `load_classifier(..., runtime="int8")`.' * (INT8_NAME in info.files),
        rejection=_describe_rejection(info.unknown),
        unknown="Only a part of the images that show none of the classes is rejected, and only where it is asked for."
        if info.unknown
        else "A class that never occurred in training cannot be recognized."
        if info.is_multilabel
        else "Every image gets a label, also one that shows none of the classes.",
        versions=", ".join(f"{name} {version}" for name, version in info.versions.items()),
    )


def read_card(folder: Path) -> tuple[str, str]:
    """Read title and license in the card of a model, where its owner may have edited them; empty where it has none."""
    path = folder / CARD_NAME
    card = path.read_text("utf-8", errors="replace") if path.is_file() else ""
    title, license = (re.search(pattern, card, re.MULTILINE) for pattern in ("^# (.+)$", "^license: *(.+)$"))
    return re.sub(r"\\(.)", r"\1", title[1]) if title else "", license[1].strip("'\" ") if license else ""


def _describe_rejection(unknown: dict[str, Any]) -> str:
    if not unknown:
        return ""
    lines = [
        "",
        "## Images of none of the classes",
        "",
        f"`predict_labels(..., reject=True)` gives no label where the score *{unknown['score']}* is above a threshold. "
        f"It was set so that {100 * unknown['expected']:g} % of images of the classes are rejected by mistake, on "
        f"{unknown['n_known']} images that the scoring models had not learned. The 8-bit network cannot reject.",
        "",
    ]
    if not unknown["left_out"]:
        lines += ["What is rejected of a class that was left out of training was not measured.", ""]
    else:
        row = "| {name} | {rejected:.2f} | {rejected_low:.2f} to {rejected_high:.2f} | {rejected_n} |"
        rows = [row.format(**entry | {"name": _escape(entry["name"])}) for entry in unknown["left_out"]]
        header = ["Classes were left out of linear probes in turn, and were then rejected as often as this.", ""]
        lines += [*header, "| class | rejected | 95 % interval | images |", "|---|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _make_front_matter(info: ModelInfo, title: str, license: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    task = "image-classification"
    results = [
        EvalResult(task, "images", "test", _on_one_line(score["name"]), round(score["value"], 4))
        for score in info.scores
    ]
    data = ModelCardData(
        license=license,
        pipeline_tag=task,
        library_name="utils_cv",
        tags=[task, info.backbone, *(["onnx"] if ONNX_NAME in info.files else [])],
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=_on_one_line(title),  # a line of dashes would end the front matter
        eval_results=results or None,
    )
    return data.to_yaml(line_break="\n")


def _escape(text: str) -> str:
    """Text on one line, without what Markdown or HTML would read as markup."""
    return re.sub(r"[\\`*\[\]<>|#~$&]|\b_|_\b", r"\\\g<0>", _on_one_line(text))


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def _list_scores(scores: list[dict[str, Any]]) -> str:
    if not scores:
        return "None were recorded."
    row = "| {name} | {value:.3f} | {low:.3f} to {high:.3f} | {n} |"
    rows = [row.format(**score | {"name": _escape(score["name"])}) for score in scores]
    return "\n".join(["| score | value | 95 % interval | images |", "|---|---|---|---|", *rows])
