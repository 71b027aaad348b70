"""Which images are in which split: split files, names of splits, images that must stay together."""
