"""Accuracy from `Detections` and `Target` alone."""
