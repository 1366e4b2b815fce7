"""The choice at the end of the accuracy-vs-speed study: from the measured table, never from what is assumed."""

import pandas as pd

PRESETS = ("fast_inference", "small_size", "high_accuracy")


def pick(
    rows: pd.DataFrame,
    *,
    max_latency_ms: float | None = None,
    min_accuracy: float | None = None,
    max_size_mb: float | None = None,
    latency: str = "median_ms",
) -> pd.Series:
    """Pick the setting that meets the limits best.

    With `min_accuracy` it is the fastest that reaches it, otherwise the most accurate that the limits allow (of equals
    the faster). Accuracies are those measured: one that lies within another's interval may be the better one.

    Args:
        rows: From `accuracy_vs_speed`; rows without accuracy, and 8 bits that are not offered, are passed over.
        max_latency_ms: The most that one image may take, in milliseconds.
        min_accuracy: The least accuracy, a fraction.
        max_size_mb: The largest file, in units of 10**6 bytes.
        latency: Column of the latency.

    Returns:
        The row.

    Raises:
        ValueError: Nothing meets the limits; the message says what comes nearest.

    Example:
        >>> pick(rows, max_latency_ms=10)["name"]  # doctest: +SKIP
        'efficientnet_lite0 224 px onnx'
    """
    trained = _list_offered(rows)
    if trained.empty:
        raise ValueError(
            f"None of {len(rows)} rows can be picked: {int(rows['accuracy'].isna().sum())} have no accuracy, the rest "
            "are 8-bit networks not shown to be as good as those in floats. Train the backbones, or measure the "
            "runtime 'onnx' too."
        )
    allowed = trained
    if max_latency_ms is not None:
        allowed = allowed[allowed[latency] <= max_latency_ms]
    if max_size_mb is not None:
        allowed = allowed[allowed["size_mb"] <= max_size_mb]
    if min_accuracy is not None:
        allowed = allowed[allowed["accuracy"] >= min_accuracy]
    if allowed.empty:
        raise ValueError(
            f"Nothing meets max_latency_ms={max_latency_ms}, min_accuracy={min_accuracy}, max_size_mb={max_size_mb}. "
            f"Measured: at best {trained[latency].min():.1f} ms, accuracy {trained['accuracy'].max():.3f}, "
            f"{trained['size_mb'].min() if 'size_mb' in trained else float('nan'):.1f} MB, each by another setting "
            "perhaps. Relax a limit, or measure more backbones and sizes."
        )
    order = [latency, "accuracy"] if min_accuracy is not None else ["accuracy", latency]
    return allowed.sort_values(order, ascending=[name == latency for name in order], kind="stable").iloc[0]


def resolve_presets(rows: pd.DataFrame, *, max_loss: float = 0.05, latency: str = "median_ms") -> pd.DataFrame:
    """Say which setting each of the classic presets means on these data and this machine.

    Args:
        rows: From `accuracy_vs_speed`.
        max_loss: The accuracy, a fraction, that `fast_inference` and `small_size` may lie below the best.
        latency: Column of the latency.

    Returns:
        One row a preset: `preset` and the columns of the chosen row. `high_accuracy` is the most accurate;
        `fast_inference` the fastest and `small_size` the smallest file of those that lose at most `max_loss`.

    Example:
        >>> resolve_presets(rows)[["preset", "name", "accuracy", "median_ms"]]  # doctest: +SKIP
    """
    best = pick(rows, latency=latency)
    offered = _list_offered(rows)
    good = offered[offered["accuracy"] >= best["accuracy"] - max_loss]
    chosen = {
        "fast_inference": good.sort_values([latency, "size_mb"], kind="stable").iloc[0],
        "small_size": good.sort_values(["size_mb", latency], kind="stable").iloc[0],
        "high_accuracy": best,
    }
    return pd.DataFrame([{"preset": name, **chosen[name].to_dict()} for name in PRESETS])


def _list_offered(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["accuracy"].notna() & rows.get("is_offered", True)]
