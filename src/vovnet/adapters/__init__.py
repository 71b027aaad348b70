"""Our backbones under their names in timm and torchvision, and our datasets and detections as samples of FiftyOne."""
