"""The one exception of our own."""


class UsageError(ValueError):
    """A name, option or setting that does not exist: the command line exits with 2, as for a wrong option."""
