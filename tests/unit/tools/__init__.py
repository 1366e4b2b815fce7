"""Tests of utils_cv and of the notebooks."""
