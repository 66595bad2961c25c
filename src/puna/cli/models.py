"""`puna models`: the catalog, with what is on disk and what would fit in memory."""


def models() -> int:
    """List the models that Puna knows, which are on disk, and which would fit in memory."""
    return 0
