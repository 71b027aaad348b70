"""Reads and writes the annotations of each format, and finds the images that they name."""
