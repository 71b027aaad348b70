"""`python -m vovnet`, which torchrun needs."""

from vovnet.cli import main

main()
