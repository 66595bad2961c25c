"""The lists of models, in the four shapes that clients read. Pure functions of the loaded models.

An alias stands in the lists like a model: `gh models run NAME` looks NAME up here before it calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from puna.chat import ModelCard
from puna.server.names import Models, Served


def openai_list(models: Models) -> dict[str, Any]:
    """GET /v1/models."""
    return {"object": "list", "data": [openai_model(name, one) for name, one in _names(models)]}


def openai_model(name: str, served: Served) -> dict[str, Any]:
    """GET /v1/models/{id}."""
    card = served.model.card
    return {"id": name, "object": "model", "created": card.created, "owned_by": card.publisher}


def catalog(models: Models, base_url: str) -> list[dict[str, Any]]:
    """GET /catalog/models. One field of a wrong type and gh models rejects it all."""
    return [
        {
            "id": served.qualified(name),
            "name": name,
            "registry": "puna",
            "publisher": served.model.card.publisher,
            "summary": _summary(name, served),
            "rate_limit_tier": "custom",
            "html_url": f"{base_url}/",
            "version": "1",
            "capabilities": ["streaming", *(["tool-calling"] if served.model.card.tools else [])],
            "limits": {
                "max_input_tokens": served.model.card.context_length,
                "max_output_tokens": served.model.card.max_output_tokens,
            },
            "tags": _tags(served.model.card),
            "supported_input_modalities": list(served.model.card.modalities),
            "supported_output_modalities": ["text"],
        }
        for name, served in _names(models)
    ]


def legacy_list(models: Models) -> list[dict[str, Any]]:
    """GET /models, as the retired Azure endpoint gave it."""
    return [
        {
            "id": served.qualified(name),
            "name": name,
            "friendly_name": name,
            "model_version": 1,
            "publisher": served.model.card.publisher,
            "model_family": served.model.card.publisher,
            "model_registry": "puna",
            "license": "custom",
            "task": "chat-completion",
            "description": _summary(name, served),
            "summary": _summary(name, served),
            "tags": _tags(served.model.card),
        }
        for name, served in _names(models)
    ]


def info(served: Served) -> dict[str, str]:
    """GET /info: what a client asks that was given no model's name."""
    return {
        "model_name": served.name,
        "model_type": "chat_completion",
        "model_provider_name": served.model.card.publisher,
    }


def _names(models: Models) -> Iterator[tuple[str, Served]]:
    yield from ((served.name, served) for served in models.served)
    yield from models.aliases.items()


def _summary(name: str, served: Served) -> str:
    if name != served.name:
        return f"Answered by {served.name}. {served.model.card.summary}".strip()
    return served.model.card.summary


def _tags(card: ModelCard) -> list[str]:
    return ["chat", *(["vision"] if "image" in card.modalities else [])]
