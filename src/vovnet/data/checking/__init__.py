"""What the check of a dataset is made of: images, annotations, copies of images, whole splits, the cleaned copy."""
