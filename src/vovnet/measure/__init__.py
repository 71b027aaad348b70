"""What a network costs, for any `torch.nn.Module`."""
