"""Measures one detector in several runtimes, each in a process of its own."""
