"""The exception that ends a run."""


class Refused(Exception):
    """Invalid input, or a failure that the message explains. The command prints it and ends with exit code 2."""
