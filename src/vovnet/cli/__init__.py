"""The command `vovnet`."""
