"""Tests of the studies of notebook 11."""
