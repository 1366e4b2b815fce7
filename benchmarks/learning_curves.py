"""Does the band of a learning curve hold a known truth? Studies like notebook 10, simulated on curves of four families.

Each study has 160 test images, 10 draws of 5, 10, 20, 40 and 80 images per class, and one training set at 80, because
nothing is left to draw there. An answer is right by a probit model of the image, the draw, and both. The library fits
its power law, which is the truth in one family only, and the shares of studies are counted in which its 95 % limits
hold the truth. Results: `results/learning_curves.json`. It takes a minute.

    python benchmarks/learning_curves.py
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from utils_cv.evaluation.intervals import make_fraction_score
from utils_cv.studies.how_many_images.learning_curve import fit_curve
from utils_cv.system.files import write_atomic
from utils_cv.system.machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "learning_curves.json"
SIZES, N_DRAWS, N_TEST, N_STUDIES, STOP_GAIN = (5, 10, 20, 40, 80), 10, 160, 25, 0.01
IMAGE_SD, NOISE_SD, DRAW_SD = 1.3, 0.7, 0.3  # latent; the last two are those at 5 images per class
Curve = Callable[[np.ndarray], np.ndarray]


def list_curves() -> list[tuple[str, Curve]]:
    """List 44 curves of the error against the images per class: the family, and the curve."""
    curves: list[tuple[str, Curve]] = []
    for start in (0.2, 0.4):
        for exponent in (0.2, 0.5, 0.8):
            for floor in (0.0, 0.06):
                curves.append(("power law", lambda n, a=start, b=exponent, c=floor: a * (n / 5) ** -b + c))
        for exponent in (0.5, 1.0):
            for shift in (5, 30):
                curves.append(
                    ("shifted power law", lambda n, a=start, b=exponent, d=shift: a * ((n + d) / (5 + d)) ** -b + 0.03)
                )
        for speed in (0.1, 0.3):
            for floor in (0.02, 0.1):
                curves.append(
                    ("exponential", lambda n, a=start, b=speed, c=floor: a * np.exp(b * (5**0.5 - n**0.5)) + c)
                )
        for before, after in ((0.2, 0.6), (0.7, 0.1), (0.5, 0.2), (0.3, 1.0)):
            for bend in (20, 60):
                curves.append(
                    (
                        "broken power law",
                        lambda n, a=start, b=before, e=after, m=bend: (
                            a * (np.minimum(n, m) / 5) ** -b * (np.maximum(n, m) / m) ** -e + 0.01
                        ),
                    )
                )
    return curves


def draw_study(rng: np.random.Generator, curve: Curve) -> pd.DataFrame:
    """Draw the trials of a study, as `measure_learning_curve` gives them."""
    image, rows = IMAGE_SD * rng.normal(size=N_TEST), []
    for size in SIZES:
        scale = (5 / size) ** 0.5
        noise, draw_sd = NOISE_SD * scale, DRAW_SD * scale
        level = norm.ppf(1 - curve(np.array([size]))[0]) * np.sqrt(IMAGE_SD**2 + noise**2 + draw_sd**2)
        n_drawn = 1 if size == SIZES[-1] else N_DRAWS
        latent = level + image + draw_sd * rng.normal(size=(n_drawn, 1)) + noise * rng.normal(size=(n_drawn, N_TEST))
        rows += [{"n_per_class": size, "seed": i, "right": latent[i % n_drawn] > 0} for i in range(N_DRAWS)]
    return pd.DataFrame(rows)


def check_study(rows: pd.DataFrame, curve: Curve) -> dict[str, bool]:
    """Check whether the limits of a fit hold the truth."""
    fit, held = fit_curve(rows, n_bootstrap=300), {}
    for factor in (1, 2, 4):
        size = factor * SIZES[-1]
        band, truth = fit.predict([size]).iloc[0], 1 - curve(np.array([size]))[0]
        held[f"accuracy at {factor} times the largest size"] = band["accuracy_low"] <= truth <= band["accuracy_high"]
    gain, errors = fit.predict_gain(), curve(np.array([80, 160]))
    held["gain of doubling"] = gain.low <= errors[0] - errors[1] <= gain.high
    sizes = np.arange(1, 8001)
    buys_less = curve(sizes) - curve(2 * sizes) < STOP_GAIN
    first = int(sizes[np.flatnonzero(~buys_less)[-1]]) if not buys_less.all() else 1
    low, high = fit.find_plateau(STOP_GAIN)
    held["size to stop at"] = low <= min(first + 1, 8000) and first <= high + 1
    return held


def main() -> None:
    """Simulate all studies and write the shares."""
    rng, found = np.random.default_rng(0), []
    for family, curve in list_curves():
        for _ in range(N_STUDIES):
            held = check_study(draw_study(rng, curve), curve)
            found += [{"family": family, "limits": name, "held": is_held} for name, is_held in held.items()]
    table = pd.DataFrame(found)
    rows: list[dict[str, Any]] = []
    for family, part in [("all", table), *table.groupby("family", sort=False)]:
        for name, held in part.groupby("limits", sort=False)["held"]:
            score = make_fraction_score(int(held.sum()), len(held))
            rows.append({"family": family, "limits": name, "share": score.value})
            rows[-1] |= {"share_low": score.low, "share_high": score.high, "n_studies": score.n}
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    content = {
        "machine": describe_machine(),
        "n_curves": len(list_curves()),
        "n_test": N_TEST,
        "table": rows,
    }
    with write_atomic(RESULTS) as path:
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
