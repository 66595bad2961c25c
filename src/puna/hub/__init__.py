"""Checkpoints from a Hugging Face hub: fetch one, find one that was fetched.

It knows repositories and files; what a model is, and which repository holds it, is for others.
"""

from puna.hub.hub import Hub, Plan

__all__ = ["Hub", "Plan"]
