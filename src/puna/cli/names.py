"""The names under which the retired endpoint served Meta's models, and who answers to them here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from puna.chat import ChatModel

TEXT = (
    "Meta-Llama-3-8B-Instruct",
    "Meta-Llama-3-70B-Instruct",
    "Meta-Llama-3.1-8B-Instruct",
    "Meta-Llama-3.1-70B-Instruct",
    "Meta-Llama-3.1-405B-Instruct",
    "Llama-3.3-70B-Instruct",
)
VISION = (
    "Llama-3.2-11B-Vision-Instruct",
    "Llama-3.2-90B-Vision-Instruct",
    "Llama-4-Scout-17B-16E-Instruct",
    "Llama-4-Maverick-17B-128E-Instruct-FP8",
)


def retired_names(models: Mapping[str, ChatModel]) -> dict[str, str]:
    """Every retired name -> the loaded model that comes nearest: one that sees, for those that saw.

    A name under which a model is loaded is its own.
    """
    sees = {name: "image" in model.card.modalities for name, model in models.items()}
    first_text = next((name for name in sees if not sees[name]), next(iter(sees)))
    first_vision = next((name for name in sees if sees[name]), first_text)
    loaded = {name.lower() for name in models}
    found = dict.fromkeys(TEXT, first_text) | dict.fromkeys(VISION, first_vision)
    return {name: model for name, model in found.items() if name.lower() not in loaded}
