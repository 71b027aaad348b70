"""Weights: found, read, written, and translated from other sources. Those that ship with the package lie here too."""
