"""Accuracy from `Detections` and `Target`, nothing else."""
