"""Readers of datasets, augmentation and batches of training images, and the check for problems."""
