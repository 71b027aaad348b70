"""What a network costs, for any `torch.nn.Module`: operations, memory access, time, memory, energy."""
