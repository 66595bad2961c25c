"""The names under which the retired endpoint served models, and who answers to them here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from puna.chat import ChatModel


def retired_names(models: Mapping[str, ChatModel]) -> dict[str, str]:
    """Every retired name -> the loaded model that comes nearest: one that sees, for those that saw.

    A name under which a model is loaded is its own.
    """
    from puna.llama.catalog import CATALOG, key

    sees = {name: "image" in model.card.modalities for name, model in models.items()}
    first_text = next((name for name in sees if not sees[name]), next(iter(sees)))
    first_vision = next((name for name in sees if sees[name]), first_text)
    loaded = {key(name) for name in models}
    return {
        old.name: first_vision if old.vision else first_text
        for old in CATALOG
        if old.served and key(old.name) not in loaded
    }
