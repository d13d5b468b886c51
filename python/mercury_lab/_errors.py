"""What the package says besides results."""


class MercuryWarning(UserWarning):
    """A result that is less than was asked for, or needs care."""
