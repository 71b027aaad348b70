"""Weights: found, read, translated from other sources, and those that ship with the package."""
