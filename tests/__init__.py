"""The tests.

A regular package, because other distributions install a folder of this name: Python would join the two.
"""
