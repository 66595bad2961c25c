"""`LocalModel`: a checkpoint on this machine that answers."""

from __future__ import annotations

from puna.local.model import LocalModel

__all__ = ["LocalModel"]
