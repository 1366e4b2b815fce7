"""Small helpers for image classification in notebooks; import the file you need, such as `utils_cv.metrics`."""

__version__ = "0.1.0"
