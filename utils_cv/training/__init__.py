"""Recipes that train a classifier."""
