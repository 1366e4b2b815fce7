"""The whole ladder as one call: climb while the validation images show a gain, then learn from these images too."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from utils_cv.backbones import DEFAULT_BACKBONE
from utils_cv.callbacks import soften
from utils_cv.table_images import TableImages
from utils_cv.trained import Trained
from utils_cv.training import fine_tune, linear_probe


@dataclass(frozen=True)
class Climb:
    """What climbing the ladder gave.

    Attributes:
        trained: The model to use: the chosen rung, trained once more on train and validation images together.
        rung: Name of the chosen rung: "probe", or a depth.
        tried: The rungs that were tried, by name, trained on the train images alone; their histories hold the
            validation scores by which the choice was made.
        seconds: Time of everything, without exports and without opening the images.
    """

    trained: Trained
    rung: str
    tried: dict[str, Trained]
    seconds: float


def climb_ladder(
    images: TableImages,
    *,
    backbone: str = DEFAULT_BACKBONE,
    depths: Sequence[str] = ("top", "all"),
    seed: int = 0,
    show_progress: bool = True,
    **options: Any,
) -> Climb:
    """Train a linear probe, climb to deeper fine-tuning while it pays, and train the chosen rung on all that is there.

    A rung pays when the validation images show a gain over the one below (see `utils_cv.training.fine_tune`); the
    first that does not ends the climb. Then the validation images have done their work and are learned as well:
    a fifth more images is often worth more than a rung. The test images are never looked at.

    Args:
        images: Opened images with splits `train` and `valid`.
        backbone: Any name that `utils_cv.backbones.load_backbone` takes.
        depths: The rungs above the probe, from below: depths of `fine_tune`.
        seed: Seed of the whole.
        show_progress: Show bars.
        **options: Further arguments of `fine_tune`, such as `epochs` or `augment`.

    Returns:
        The chosen rung and how it was chosen.

    Raises:
        ValueError: If there are no train or validation images, or as `fine_tune` does.

    Example:
        >>> climb = climb_ladder(images)  # doctest: +SKIP
        >>> climb.rung  # doctest: +SKIP
        'probe'
    """
    options |= {"seed": seed, "show_progress": show_progress}
    best, paying, tried = linear_probe(images, backbone=backbone, seed=seed), {}, {}
    tried["probe"] = best
    seconds = best.seconds
    for depth in depths:
        tuned = fine_tune(images, depth=depth, start=best, **options)
        tried[depth] = tuned
        seconds += tuned.seconds - best.seconds
        kept = tuned.history[tuned.history["is_kept"]].iloc[0]
        if kept["epoch"] == 0:
            break
        best, paying[depth] = tuned, (int(kept["epoch"]), float(kept["temperature"]))
    everything = learn_valid(images)
    trained = linear_probe(everything, backbone=backbone, seed=seed)
    for depth, (n_epochs, temperature) in paying.items():
        trained = fine_tune(everything, depth=depth, start=trained, keep="last", **(options | {"epochs": n_epochs}))
        # No image is left to find a temperature by: that of the training by which the rung was chosen.
        model = trained.learn.model
        model.load_state_dict(soften(model.state_dict(), temperature))
    return Climb(trained, list(paying)[-1] if paying else "probe", tried, seconds + trained.seconds)


def learn_valid(images: TableImages) -> TableImages:
    """Move the validation images to the train split; the given images are not changed."""
    split = images.table["split"].where(images.table["split"] != "valid", "train")
    return dataclasses.replace(images, table=images.table.assign(split=split))
