"""Exports detectors to other runtimes, and proves that the exported file finds the same."""
