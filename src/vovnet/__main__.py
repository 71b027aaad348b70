"""`python -m vovnet`, which torchrun needs."""

from vovnet.cli.main import main

main()
