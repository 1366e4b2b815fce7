"""Training effort: every learning rate starts from the same probe, and every epoch is kept."""

from utils_cv.studies.training_effort import measure_training_effort


def test_each_rate_keeps_every_epoch_and_starts_from_the_probe(small_images):
    rows = measure_training_effort(small_images.table, im_size_px=64, epochs=2, learning_rates=(1e-4, 3e-2))
    assert list(zip(rows["learning_rate"], rows["epoch"], strict=True)) == [
        (1e-4, 0), (1e-4, 1), (1e-4, 2), (3e-2, 0), (3e-2, 1), (3e-2, 2),
    ]  # fmt: skip
    starts = rows[rows["epoch"] == 0].drop(columns="learning_rate")
    assert starts.nunique().max() == 1
    for _, part in rows.groupby("learning_rate"):
        assert part["seconds"].is_monotonic_increasing
    assert (rows["valid_accuracy_low"] <= rows["valid_accuracy"]).all()
    assert (rows["valid_accuracy"] <= rows["valid_accuracy_high"]).all()
    first, last = (part["valid_loss"].iloc[-1] for _, part in rows.groupby("learning_rate"))
    assert abs(first - last) > 1e-6  # the rate is really used
