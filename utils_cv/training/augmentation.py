"""What may change about an image without changing its label: named changes, transforms of torchvision, and presets."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.functional import affine_grid, grid_sample
from torchvision.transforms import v2


class _Rotate(v2.Transform):
    """Rotate by up to so many degrees and enlarge by up to a tenth; the corners show the mirrored image.

    One step, because padding, torchvision's affine map and cropping take 2.4 times as long: most of an augmentation.
    """

    def __init__(self, degrees: float) -> None:
        super().__init__()
        self.radians = math.radians(degrees)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, float]:
        """Draw the angle and the scale."""
        angle, scale = torch.empty(1).uniform_(-self.radians, self.radians), torch.empty(1).uniform_(1.0, 1.1)
        return {"angle": angle.item(), "scale": scale.item()}

    def transform(self, image: torch.Tensor, params: dict[str, float]) -> torch.Tensor:
        """Find the place in the image that each pixel of the view shows, and mix the four pixels around it."""
        across, down = math.cos(params["angle"]) / params["scale"], math.sin(params["angle"]) / params["scale"]
        given = {"align_corners": False}
        places = affine_grid(torch.tensor([[[across, down, 0], [-down, across, 0]]]), [1, *image.shape], **given)
        view = grid_sample(image[None].float(), places, mode="bilinear", padding_mode="reflection", **given)[0]
        return view.round_().to(torch.uint8)


_CHANGES: dict[str, Callable[[int], list[v2.Transform]]] = {
    "mirror": lambda size_px: [v2.RandomHorizontalFlip()],
    "rotate": lambda size_px: [_Rotate(10)],
    "rotate_any": lambda size_px: [_Rotate(180)],
    "light": lambda size_px: [v2.ColorJitter(brightness=0.2, contrast=0.2)],
    "color": lambda size_px: [v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3)],
    "crop": lambda size_px: [v2.RandomResizedCrop(size_px, scale=(0.5, 1.0), ratio=(1.0, 1.0))],
}
# The mirror image of a shoe is a shoe, the mirror image of a 3 is not a 3.
AUGMENTATIONS: dict[str, tuple[str, ...]] = {
    "none": (),
    "upright": ("mirror", "rotate", "light"),
    "any_side_up": ("mirror", "rotate_any", "light"),
    "digits": ("rotate", "light"),
    **{name: (name,) for name in _CHANGES},
}


def make_augmentation(augment: str, size_px: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Make the function that changes one image, uint8 (3, size, size); it draws from torch's random numbers."""
    if augment not in AUGMENTATIONS:
        raise ValueError(f"Got augment={augment!r}; expected one of {', '.join(AUGMENTATIONS)}.")
    return v2.Compose([v2.Identity(), *(step for name in AUGMENTATIONS[augment] for step in _CHANGES[name](size_px))])


def augment_pixels(pixels: np.ndarray, augment: str, *, seed: int = 0) -> np.ndarray:
    """Change each image once; the program's own random numbers go on as if this had not been called.

    Args:
        pixels: uint8, (n, size, size, 3).
        augment: One of `AUGMENTATIONS`: a preset ("none", "upright", "any_side_up", "digits") or a single change.
        seed: The same seed gives the same views.

    Returns:
        uint8 images of the same shape.

    Raises:
        ValueError: If there is no augmentation of that name.

    Example:
        >>> augment_pixels(np.zeros((2, 32, 32, 3), np.uint8), "upright").shape
        (2, 32, 32, 3)
    """
    return BatchAugmentation(augment, pixels.shape[1], seed)(pixels)


class BatchAugmentation:
    """Change each image of one batch after the other, as `augment_pixels` changes those of all together."""

    def __init__(self, augment: str, size_px: int, seed: int) -> None:
        self.change, self.state = make_augmentation(augment, size_px), torch.Generator().manual_seed(seed).get_state()

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Change images, uint8 (n, size, size, 3); the program's own random numbers go on as if not called."""
        views = np.empty(pixels.shape, np.uint8)
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.state)
            for i, image in enumerate(pixels):
                views[i] = self.change(torch.from_numpy(np.array(image)).permute(2, 0, 1)).permute(1, 2, 0).numpy()
            self.state = torch.get_rng_state()
        return views
