"""Small helpers for image classification in notebooks; import what you need, such as `utils_cv.evaluation.metrics`."""

__version__ = "0.1.0"
