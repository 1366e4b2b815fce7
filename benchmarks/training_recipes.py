"""Recipes that `training_peers.py` compares: ours, and other libraries' as their own documentation sets them.

Each takes a table with splits `train` and `test` and returns the seconds of its training, images opened and
imports excluded, and the predicted class codes of the test images. All use the same pretrained weights of
`efficientnet_lite0` at 224 px.
"""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from utils_cv.data.image_table import encode_labels, list_class_names
from utils_cv.data.images import load_image
from utils_cv.models.backbones import load_backbone
from utils_cv.system.machine import set_seed
from utils_cv.system.timing import Timer

NAME, SIZE_PX, MEAN = "efficientnet_lite0", 224, 0.5
Result = tuple[float, np.ndarray]


def run_probe(table: pd.DataFrame, seed: int) -> Result:
    """Our probe; every train image is learned, because cross-validation needs no validation part."""
    from utils_cv.training.linear_probe import linear_probe

    return _run_ours(table, lambda images: linear_probe(images, seed=seed))


def run_fine_tuning(table: pd.DataFrame, seed: int, *, trainable: str) -> Result:
    """Our fine-tuning from the probe; every train image is learned, and the last epoch is used."""
    from utils_cv.training.fine_tuning import fine_tune

    return _run_ours(table, lambda images: fine_tune(images, trainable=trainable, seed=seed, show_progress=False))


def run_select_recipe(table: pd.DataFrame, seed: int) -> Result:
    """The recipe that cross-validation selects, trained on all train images."""
    from utils_cv.training.model_selection import select_recipe

    def train(images: Any) -> Any:
        selection = select_recipe(images, seed=seed, show_progress=False)
        print(selection.scores.round(3).to_string(index=False), "\nselected:", selection.recipe)
        return dataclasses.replace(selection.model, seconds=selection.seconds)

    return _run_ours(table, train)


def _run_ours(table: pd.DataFrame, train: Callable[[Any], Any]) -> Result:
    """Train on the train images and predict the test images."""
    from utils_cv.data.image_table import load_table_images
    from utils_cv.training.learner import predict_images

    with Timer() as timer:
        images = load_table_images(table[table["split"] == "train"].reset_index(drop=True), SIZE_PX)
    model = train(images)
    return timer.seconds + model.seconds, predict_images(model, load_table_images(table, SIZE_PX)).y_pred


def run_sklearn_probe(table: pd.DataFrame, seed: int) -> Result:
    """What most people write: features by eager timm in batches of 32, scikit-learn's LogisticRegression."""
    from sklearn.linear_model import LogisticRegression

    body, train, test = load_backbone(NAME, n_classes=0), *_split(table)

    def compute(rows: pd.DataFrame) -> np.ndarray:
        parts = []
        for start in range(0, len(rows), 32):
            images = [_open(path) for path in rows["path"].iloc[start : start + 32]]
            with torch.inference_mode():
                parts.append(body(torch.stack(images)).numpy())
        return np.concatenate(parts)

    with Timer() as timer:
        model = LogisticRegression(max_iter=1000).fit(compute(train), _encode(table, train))
    return timer.seconds, model.predict(compute(test))


def run_fastai(table: pd.DataFrame, seed: int, *, epochs: int, careful: bool = False) -> Result:
    """The fine_tune of fastai as it comes; or careful: batches of 16, raised rates of the body, frozen statistics."""
    from fastai.vision.all import CategoryBlock, DataBlock, ImageBlock, Resize, accuracy, aug_transforms, vision_learner

    from utils_cv.training.callbacks import FreezeStatistics

    train, test = _split(table)
    block = DataBlock(
        (ImageBlock, CategoryBlock(vocab=list_class_names(table))),
        get_x=lambda row: row["path"],
        get_y=lambda row: row["label"],
        splitter=lambda items: (list(range(len(items))), [0, 1]),  # two images: validation costs nothing here
        item_tfms=Resize(SIZE_PX),
        batch_tfms=aug_transforms(),
    )
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pth"
        torch.save(load_backbone(NAME).state_dict(), weights)
        with Timer() as timer:
            loaders = block.dataloaders(train, bs=16 if careful else 64, num_workers=2)
            overlay = {"file": str(weights)}
            learn = vision_learner(
                loaders, "tf_efficientnet_lite0", metrics=accuracy, pretrained_cfg_overlay=overlay, train_bn=not careful
            )
            if careful:
                learn.add_cb(FreezeStatistics())
            with learn.no_bar(), learn.no_logging():
                learn.fine_tune(epochs, **({"base_lr": 4e-3, "lr_mult": 10} if careful else {}))
    with learn.no_bar():
        probabilities, _ = learn.get_preds(dl=learn.dls.test_dl(test))
    return timer.seconds, probabilities.argmax(dim=1).numpy()


def run_pytorch_tutorial(table: pd.DataFrame, seed: int, *, epochs: int) -> Result:
    """PyTorch's transfer learning tutorial: batches of 4, SGD at 0.001, a tenth of it after 7 epochs."""
    train, test = _split(table)
    model = load_backbone(NAME, n_classes=table["label"].nunique())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    with Timer() as timer:
        data = TrainImages(train, _encode(table, train))
        loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True, num_workers=2)
        for _ in range(epochs):
            model.train()
            for batch in loader:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(batch["pixel_values"]), batch["labels"]).backward()
                optimizer.step()
            schedule.step()
    return timer.seconds, _predict(model, test)


def run_hugging_face(table: pd.DataFrame, seed: int, *, careful: bool = False) -> Result:
    """Hugging Face's Trainer as its image classification guide sets it; or careful: its step at a rate for a new head.

    The guide fine-tunes a transformer on thousands of images; a few hundred give it eleven steps.
    """
    from transformers import Trainer, TrainingArguments

    train, test = _split(table)
    model = Wrapped(load_backbone(NAME, n_classes=table["label"].nunique()))
    with tempfile.TemporaryDirectory() as folder, Timer() as timer:
        arguments = TrainingArguments(
            output_dir=folder, remove_unused_columns=False, learning_rate=1e-3 if careful else 5e-5,
            per_device_train_batch_size=16, gradient_accumulation_steps=1 if careful else 4, num_train_epochs=3,
            warmup_steps=0.1, logging_steps=10, save_strategy="no",
            report_to="none", seed=seed, dataloader_num_workers=2, disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        Trainer(model=model, args=arguments, train_dataset=TrainImages(train, _encode(table, train))).train()
    return timer.seconds, _predict(model.network, test)


RECIPES: dict[str, Callable[[pd.DataFrame, int], Result]] = {
    "probe": run_probe,
    "last_stage": lambda table, seed: run_fine_tuning(table, seed, trainable="last_stage"),
    "all": lambda table, seed: run_fine_tuning(table, seed, trainable="all"),
    "select_recipe": run_select_recipe,
    "scikit-learn probe": run_sklearn_probe,
    "fastai 1": lambda table, seed: run_fastai(table, seed, epochs=1),
    "fastai 4": lambda table, seed: run_fastai(table, seed, epochs=4),
    "fastai 4 careful": lambda table, seed: run_fastai(table, seed, epochs=4, careful=True),
    "PyTorch tutorial 2": lambda table, seed: run_pytorch_tutorial(table, seed, epochs=2),
    "PyTorch tutorial 25": lambda table, seed: run_pytorch_tutorial(table, seed, epochs=25),
    "Hugging Face": run_hugging_face,
    "Hugging Face careful": lambda table, seed: run_hugging_face(table, seed, careful=True),
}


class TrainImages(torch.utils.data.Dataset):
    """Random crops and mirror images, as the tutorials of PyTorch and Hugging Face take them."""

    def __init__(self, rows: pd.DataFrame, codes: np.ndarray) -> None:
        from torchvision.transforms import v2

        self.paths, self.codes = list(rows["path"]), codes
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

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Give logits, and the loss where there are labels."""
        logits = self.network(pixel_values)
        return {"logits": logits} | ({} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)})


def run_recipe(name: str, table: pd.DataFrame, seed: int) -> Result:
    """Run one recipe by name, from a seed."""
    set_seed(seed)
    return RECIPES[name](table, seed)


def _split(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return table[table["split"] == "train"].reset_index(drop=True), table[table["split"] == "test"]


def _encode(table: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    return encode_labels(rows["label"], list_class_names(table))


def _open(path: str | Path) -> torch.Tensor:
    image = load_image(path).resize((SIZE_PX, SIZE_PX))
    return (torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 - MEAN) / MEAN


def _predict(model: nn.Module, test: pd.DataFrame) -> np.ndarray:
    model.eval()
    with torch.inference_mode():
        return np.array([int(model(_open(path)[None]).argmax()) for path in test["path"]])
