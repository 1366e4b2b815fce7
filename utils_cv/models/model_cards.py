"""The card of a finished model: what it is for, how good it is, on what that was measured."""

from typing import Any

from .model_files import INT8_NAME, ONNX_NAME, ModelInfo


def make_model_card(info: ModelInfo, *, title: str, licence: str = "other") -> str:
    """Write a model card in Markdown, with the front matter that the Hugging Face Hub reads.

    Args:
        info: The facts of the model.
        title: Its name.
        licence: Licence of the model as a whole, such as "mit"; "other" says that its owner has to state it.

    Returns:
        The text of `README.md`.

    Example:
        >>> print(make_model_card(info, title="fridge objects"))  # doctest: +SKIP
    """
    sections = [
        _make_front_matter(info, title, licence),
        f"# {title}",
        _describe_model(info),
        "## Scores\n\n" + _list_scores(info.scores),
        "## Use\n\n" + _show_use(info),
        "## Limits\n\n" + _list_limits(info),
        "## Made with\n\n" + ", ".join(f"{name} {version}" for name, version in info.versions.items()) + ".",
    ]
    return "\n\n".join(sections) + "\n"


def _make_front_matter(info: ModelInfo, title: str, licence: str) -> str:
    lines = [
        "---",
        f"license: {licence}",
        "pipeline_tag: image-classification",
        "library_name: utils_cv",
        "tags:",
        "- image-classification",
        f"- {info.backbone}",
        *(["- onnx"] if ONNX_NAME in info.files else []),
    ]
    if info.scores:
        lines += ["metrics:", *dict.fromkeys(f"- {_quote(score['name'])}" for score in info.scores)]
        lines += ["model-index:", f"- name: {_quote(title)}", "  results:"]
        for score in info.scores:
            lines += [
                "  - task: {type: image-classification}",
                f"    dataset: {{type: images, name: {_quote(score.get('split', 'test'))}}}",
                f"    metrics: [{{type: {_quote(score['name'])}, value: {score['value']:.4f}}}]",
            ]
    return "\n".join([*lines, "---"])


def _quote(text: Any) -> str:
    """A YAML string in double quotes, which escapes as JSON does."""
    import json

    return json.dumps(str(text), ensure_ascii=False)


def _describe_model(info: ModelInfo) -> str:
    kind = "any number of" if info.is_multilabel else "one of"
    facts = info.training
    trained = f" It was trained on {facts['n_train']} images." if "n_train" in facts else ""
    return (
        f"An image classifier that gives each image {kind} {len(info.class_names)} labels: "
        f"{', '.join(info.class_names)}.{trained} The network is {info.backbone} with a linear head; it takes square "
        f"images of {info.im_size_px} px, made so by `{info.fit}`."
    )


def _list_scores(scores: list[dict[str, Any]]) -> str:
    if not scores:
        return "None were recorded."
    lines = ["| score | value | 95 % interval | images |", "|---|---|---|---|"]
    for score in scores:
        interval = f"{score['low']:.3f} to {score['high']:.3f}" if {"low", "high"} <= set(score) else ""
        lines.append(f"| {score['name']} | {score['value']:.3f} | {interval} | {score.get('n', '')} |")
    return "\n".join(lines)


def _show_use(info: ModelInfo) -> str:
    lines = [
        "```python",
        "from utils_cv.models.saved_classifier import load_classifier",
        "",
        'classifier = load_classifier("path/to/this/folder")',
        'classifier.predict_labels(["image.jpg"])',
        "```",
    ]
    text = "\n".join(lines)
    if INT8_NAME in info.files:
        text += '\n\nThe 8-bit network is loaded by `load_classifier(..., runtime="int8")`.'
    return text


def _list_limits(info: ModelInfo) -> str:
    limits = [
        "The scores hold for images like those they were measured on; on images that look different they can be far "
        "lower.",
        "Every image gets a label, also one that shows none of the classes."
        if not info.is_multilabel
        else "A class that never occurred in training cannot be recognised.",
        "The hashes in `model.json` detect damaged and mixed-up files. They do not protect against somebody who "
        "replaces the file and its hash.",
    ]
    return "\n".join(f"- {limit}" for limit in limits)
