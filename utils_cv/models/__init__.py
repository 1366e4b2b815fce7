"""Backbones, features, runtimes and the finished model."""
