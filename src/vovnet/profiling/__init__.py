"""What any `torch.nn.Module` costs: operations, memory access, time, memory, energy."""
