"""A training run for a dataset, chosen from the data and from what this machine was measured to do."""
