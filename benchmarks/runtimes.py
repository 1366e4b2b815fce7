"""Every runtime that is installed, on the same networks: answers in floats, what 8 bits lose, and times in turn.

    python benchmarks/runtimes.py                            # lite0, and two architectures without weights
    python benchmarks/runtimes.py --backbones resnet18 --runtimes torch onnx

torch.compile needs a C++ compiler and a minute for each network, twice: once to answer, once for the peak memory of a
fresh process. A call that was stopped goes on where it was. `pip install -e '.[openvino]'` adds OpenVINO.
"""

import argparse

import pandas as pd

from utils_cv.data.image_table import load_image_table
from utils_cv.data.splits import complete_splits
from utils_cv.models.runtimes import list_runtimes
from utils_cv.studies.training_accuracy_vs_speed import compare_settings, list_settings
from utils_cv.system.machine import describe_machine

COLUMNS = ["valid_accuracy", "difference_low", "difference_high", "median_ms", "min_ms", "ratio", "images_per_second"]
COLUMNS += ["size_mb", "peak_memory_mb", "note", "busy"]


def main() -> None:
    """Run the study with every runtime and print it, with the ratio to the eager network with the best layout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default="data/fridge_objects")
    parser.add_argument(
        "--backbones", nargs="+", default=["efficientnet_lite0", "mobilenet_v3_small", "resnet18"], metavar="NAME"
    )
    parser.add_argument("--runtimes", nargs="+", default=list_runtimes(), choices=list_runtimes(), metavar="NAME")
    parser.add_argument("--repeats", type=int, default=50)
    arguments = parser.parse_args()
    table = complete_splits(load_image_table(arguments.data_dir))
    settings = pd.concat([list_settings([name], [0], arguments.runtimes) for name in arguments.backbones])
    rows = compare_settings(table, settings.reset_index(drop=True), n_repeats=arguments.repeats)
    for backbone, part in rows.groupby("backbone", sort=False):
        eager = part.loc[part["runtime"].isin(["torch", "channels_last"]), "median_ms"].min()
        shown = part.assign(ratio=part["median_ms"] / eager).set_index("runtime")[COLUMNS]
        print(f"\n{backbone}, {part['im_size_px'].iloc[0]} px (n = {part['n_valid'].iloc[0]} validation images)")
        print(shown.round(3).to_string())
    print(describe_machine())


if __name__ == "__main__":
    main()
