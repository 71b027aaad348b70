"""Readers of data sets, transforms, and the check for faults."""
