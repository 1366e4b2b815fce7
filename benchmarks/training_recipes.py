"""Recipes that `training_peers.py` compares: ours, and other libraries' as their own documentation sets them.

Each learns the rows of a table and returns how it predicts others. All start from the same pretrained weights of
`efficientnet_lite0` at 224 px and work in one process, without workers that load images.
"""

import math
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from fastai.vision.all import CategoryBlock, DataBlock, ImageBlock, Resize, aug_transforms, vision_learner
from sklearn.linear_model import LogisticRegression
from torch import nn
from torchvision.transforms import v2

from utils_cv.data.image_table import TableImages, load_table_images
from utils_cv.data.images import load_image
from utils_cv.data.labels import encode_labels, list_class_names
from utils_cv.models.backbones import PACKAGED, load_backbone
from utils_cv.training.callbacks import FreezeStatistics
from utils_cv.training.linear_probe import linear_probe
from utils_cv.training.model_selection import select_recipe
from utils_cv.training.trained_models import TrainedModel, predict_images

HAS_HUGGING_FACE = bool(find_spec("transformers") and find_spec("accelerate"))
if HAS_HUGGING_FACE:
    from transformers import Trainer, TrainingArguments

NAME, SIZE_PX, MEAN = "efficientnet_lite0", 224, 0.5
# What a careful user changes: few images in small batches, and enough steps to learn from them.
SMALL_SET, CAREFUL_BATCHES, CAREFUL_STEPS = 200, (8, 16), 60
# The tutorial's epochs, as long as so many views of images are not exceeded: about 10 minutes of CPU.
TUTORIAL_EPOCHS, TUTORIAL_VIEWS = 25, 7500


class Trained(NamedTuple):
    """What a recipe returns: how it predicts the class codes of rows, and what it set or selected."""

    predict: Callable[[pd.DataFrame], np.ndarray]
    setting: str


def train_probe(train: pd.DataFrame, seed: int) -> Trained:
    """Our probe, its regularization chosen by cross-validation."""
    return _describe_ours(linear_probe(_open_train(train), seed=seed), "")


def train_three_networks(train: pd.DataFrame, seed: int) -> Trained:
    """Our probe on the features of three networks side by side."""
    return _describe_ours(linear_probe(_open_train(train), backbone="+".join(PACKAGED), seed=seed), "")


def train_select_recipe(train: pd.DataFrame, seed: int) -> Trained:
    """The recipe that our cross-validation selects, with its defaults."""
    selection = select_recipe(_open_train(train), seed=seed, show_progress=False)
    return _describe_ours(selection.model, f"selected {selection.recipe}")


def _open_train(train: pd.DataFrame) -> TableImages:
    return load_table_images(train.assign(split="train"), SIZE_PX)


def _describe_ours(model: TrainedModel, setting: str) -> Trained:
    def predict(rows: pd.DataFrame) -> np.ndarray:
        return predict_images(model, load_table_images(rows.assign(split="test"), SIZE_PX)).y_pred

    return Trained(predict, setting)


def train_sklearn_probe(train: pd.DataFrame, seed: int) -> Trained:
    """What most people write: features by eager timm in batches of 32, scikit-learn's LogisticRegression."""
    body = load_backbone(NAME, n_classes=0).eval()

    def compute(rows: pd.DataFrame) -> np.ndarray:
        parts = []
        for start in range(0, len(rows), 32):
            images = [_open(path) for path in rows["path"].iloc[start : start + 32]]
            with torch.inference_mode():
                parts.append(body(torch.stack(images)).numpy())
        return np.concatenate(parts)

    model = LogisticRegression(max_iter=1000).fit(compute(train), _encode(train))
    return Trained(lambda rows: model.predict(compute(rows)), "")


def train_fastai(train: pd.DataFrame, seed: int, *, careful: bool = False) -> Trained:
    """The `fine_tune(4)` of fastai as it comes; or careful.

    Careful means small batches, at least 60 steps, ten times the default rate in the body, and frozen statistics.
    """
    size = _choose_batch(len(train)) if careful else min(64, len(train))  # fastai drops a batch that is not full
    epochs = max(4, math.ceil(CAREFUL_STEPS / (len(train) // size))) if careful else 4
    block = DataBlock(
        (ImageBlock, CategoryBlock(vocab=list_class_names(train))),
        get_x=lambda row: row["path"],
        get_y=lambda row: row["label"],
        splitter=lambda items: (list(range(len(items))), [0, 1]),  # two images: validation costs nothing here
        item_tfms=Resize(SIZE_PX),
        batch_tfms=aug_transforms(),
    )
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pth"
        torch.save(load_backbone(NAME).state_dict(), weights)
        loaders = block.dataloaders(train, bs=size, num_workers=0)
        overlay = {"file": str(weights)}
        learn = vision_learner(loaders, "tf_efficientnet_lite0", pretrained_cfg_overlay=overlay, train_bn=not careful)
    with learn.no_bar(), learn.no_logging():
        if careful:
            learn.add_cb(FreezeStatistics())
        learn.fine_tune(epochs, **({"base_lr": 4e-3, "lr_mult": 10} if careful else {}))

    def predict(rows: pd.DataFrame) -> np.ndarray:
        with learn.no_bar():
            return learn.get_preds(dl=learn.dls.test_dl(rows))[0].argmax(dim=1).numpy()

    return Trained(predict, f"{epochs} epochs, batches of {size}")


def train_pytorch_tutorial(train: pd.DataFrame, seed: int) -> Trained:
    """PyTorch's transfer learning tutorial: batches of 4, SGD at 0.001, a tenth of it after 7 epochs."""
    network = load_backbone(NAME, n_classes=train["label"].nunique())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    loader = torch.utils.data.DataLoader(TrainImages(train), batch_size=4, shuffle=True)
    network.train()
    epochs = min(TUTORIAL_EPOCHS, TUTORIAL_VIEWS // len(train))
    for _ in range(epochs):
        for batch in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(batch["pixel_values"]), batch["labels"]).backward()
            optimizer.step()
        schedule.step()
    return Trained(lambda rows: _predict(network, rows), f"{epochs} epochs")


def train_hugging_face(train: pd.DataFrame, seed: int, *, careful: bool = False) -> Trained:
    """Hugging Face's Trainer as its image classification guide sets it; or careful.

    The guide fine-tunes a transformer on thousands of images; a few hundred give it eleven steps. Careful means small
    batches that are not gathered, at least 60 steps, and the rate of a new head.
    """
    size = _choose_batch(len(train)) if careful else 16
    epochs = max(3, math.ceil(CAREFUL_STEPS / math.ceil(len(train) / size))) if careful else 3
    model = Wrapped(load_backbone(NAME, n_classes=train["label"].nunique()))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, remove_unused_columns=False, learning_rate=1e-3 if careful else 5e-5,
            per_device_train_batch_size=size, gradient_accumulation_steps=1 if careful else 4, num_train_epochs=epochs,
            warmup_steps=0.1, logging_steps=10, save_strategy="no",
            report_to="none", seed=seed, disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        Trainer(model=model, args=arguments, train_dataset=TrainImages(train)).train()
    return Trained(lambda rows: _predict(model.network, rows), f"{epochs} epochs, batches of {size}")


RECIPES: dict[str, Callable[[pd.DataFrame, int], Trained]] = {
    "probe": train_probe,
    "three_networks": train_three_networks,
    "select_recipe": train_select_recipe,
    "sklearn_probe": train_sklearn_probe,
    "fastai_careful": lambda train, seed: train_fastai(train, seed, careful=True),
    "hugging_face_careful": lambda train, seed: train_hugging_face(train, seed, careful=True),
    "fastai": train_fastai,
    "hugging_face": train_hugging_face,
    "pytorch_tutorial": train_pytorch_tutorial,
}


LABELS = {
    "probe": "ours: `linear_probe`",
    "three_networks": "ours: `linear_probe`, three networks",
    "select_recipe": "ours: `select_recipe`",
    "sklearn_probe": "scikit-learn on timm's features",
    "fastai_careful": "fastai, careful",
    "hugging_face_careful": "Hugging Face, careful",
    "fastai": "fastai, `fine_tune(4)`",
    "hugging_face": "Hugging Face, its guide",
    "pytorch_tutorial": "PyTorch's tutorial",
}


class TrainImages(torch.utils.data.Dataset):
    """Random crops and mirror images, as the tutorials of PyTorch and Hugging Face take them."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.paths, self.codes = list(rows["path"]), _encode(rows)
        self.transform = v2.Compose(
            [v2.RandomResizedCrop(SIZE_PX), v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float, True)]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        pixels = (self.transform(load_image(self.paths[i])) - MEAN) / MEAN
        return {"pixel_values": pixels, "labels": torch.tensor(self.codes[i])}


class Wrapped(nn.Module):
    """A timm network with the arguments and results that Hugging Face's Trainer expects."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, Any]:
        """Give logits, and the loss where there are labels."""
        logits = self.network(pixel_values)
        return {"logits": logits} | ({} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)})


def _choose_batch(n_images: int) -> int:
    return CAREFUL_BATCHES[n_images >= SMALL_SET]


def _encode(rows: pd.DataFrame) -> np.ndarray:
    return encode_labels(rows["label"], list_class_names(rows))


def _open(path: str | Path) -> torch.Tensor:
    image = load_image(path).resize((SIZE_PX, SIZE_PX))
    return (torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 - MEAN) / MEAN


def _predict(network: nn.Module, rows: pd.DataFrame) -> np.ndarray:
    network.eval()
    with torch.inference_mode():
        return np.array([int(network(_open(path)[None]).argmax()) for path in rows["path"]])
