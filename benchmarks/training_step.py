"""Milliseconds per image of a training step: eager PyTorch, kept memory, channels last, both, compiled, in bfloat16.

    python benchmarks/training_step.py --batch-sizes 64 16 --repeats 2
    python benchmarks/training_step.py --settings "both" "both, bfloat16"    # where the processor has it
    python benchmarks/training_step.py --settings "both" "both, compiled"    # needs a C++ compiler, and minutes

Each setting runs in a process of its own, in turn, because the allocator's setting cannot be taken back. The losses
show that the settings train alike.
"""

import argparse
import json
import sys

import numpy as np
import pandas as pd

from utils_cv.system.machine import describe_machine
from utils_cv.system.timing import measure_fresh_process

FLAGS = ("keep", "channels_last", "compiled", "bfloat16")
SETTINGS: dict[str, tuple[str, ...]] = {
    "stock eager": (),
    "kept memory": ("keep",),
    "channels last": ("channels_last",),
    "both": ("keep", "channels_last"),
    "both, bfloat16": ("keep", "channels_last", "bfloat16"),
    "both, compiled": ("keep", "channels_last", "compiled"),
}

STEP = """
import json, time
import torch
from utils_cv.models.backbones import load_backbone
from utils_cv.system.machine import tune_allocator
if {keep}:
    tune_allocator()
torch.manual_seed(0)
memory_format = torch.channels_last if {channels_last} else torch.contiguous_format
model = load_backbone(n_classes=4).train().to(memory_format=memory_format)
for module in model.modules():
    if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
        module.eval()
x = torch.randn({batch_size}, 3, 224, 224).contiguous(memory_format=memory_format)
y = torch.arange({batch_size}) % 4
step_model = torch.compile(model) if {compiled} else model
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
times, losses = [], []
for step in range({n_steps}):
    start = time.perf_counter()
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled={bfloat16}):
        logits = step_model(x)
    loss = torch.nn.functional.cross_entropy(logits.float(), y)
    loss.backward()
    optimizer.step()
    times.append(time.perf_counter() - start)
    losses.append(loss.item())
print(json.dumps({{"ms": sorted(times[1:])[len(times) // 2 - 1] / {batch_size} * 1000, "losses": losses}}))
"""


def main() -> None:
    """Measure every setting in turn and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 16])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS)[:4], choices=list(SETTINGS), metavar="NAME")
    arguments = parser.parse_args()
    rows = []
    for batch_size in arguments.batch_sizes:
        for repeat in range(arguments.repeats):
            for name in arguments.settings:
                flags = {flag: flag in SETTINGS[name] for flag in FLAGS}
                script = STEP.format(batch_size=batch_size, n_steps=arguments.steps, **flags)
                done = measure_fresh_process(script)
                result = json.loads(done.output.splitlines()[-1])
                row = {"batch_size": batch_size, "setting": name, "repeat": repeat, "ms_per_image": result["ms"]}
                rows.append(row | {"peak_memory_mb": done.peak_memory_mb, "losses": result["losses"]})
                print(rows[-1], file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    for batch_size, part in table.groupby("batch_size", sort=False):
        summary = part.groupby("setting", sort=False)[["ms_per_image", "peak_memory_mb"]].median()
        summary["times faster"] = summary["ms_per_image"].iloc[0] / summary["ms_per_image"]
        losses = np.array(part["losses"].tolist())
        print(f"\nbatch {batch_size}; largest difference of a loss: {np.ptp(losses, axis=0).max():.1e}")
        print(summary.round(2).to_string())
    print(describe_machine())


if __name__ == "__main__":
    main()
