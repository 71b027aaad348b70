"""Detections of an image as objects of other libraries, in numpy alone: the same for tensors and for arrays."""
