"""Figures: optional axes in, axes out."""
