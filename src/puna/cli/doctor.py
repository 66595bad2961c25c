"""`puna doctor`: what this machine can do, and what to mend."""


def doctor() -> int:
    """Say what this machine can do, and what to mend."""
    return 0
