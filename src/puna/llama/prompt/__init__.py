"""A conversation to token ids, in the formats that Llama 3.1, 3.2 and 3.2 Vision were taught.

It knows no model, no checkpoint and no generation: messages in, ids and images out. Special ids are
written here and nowhere else; what people and tools wrote is encoded as plain text, whatever it
looks like. Two renderings: `hf` equals the chat templates published with the checkpoints wherever
those have an answer, and goes on in the obvious way where they raise; `meta` follows Meta's prompt
format documents. Both turn the request into `Turn`s; one writer turns these into ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, TypeAlias

from puna.chat import ChatRequest, Image, Message, ToolSpec
from puna.errors import InvalidValue
from puna.llama.config import PromptFamily
from puna.llama.prompt.hf import hf_turns
from puna.llama.prompt.meta import meta_turns
from puna.llama.prompt.turns import (
    Conversation,
    Special,
    Turn,
    images_of,
    offered_tools,
    tool_json,
)
from puna.llama.tokenizer import Tokenizer

__all__ = ["PromptStyle", "RenderedPrompt", "offered_tools", "render_prompt"]

PromptStyle: TypeAlias = Literal["hf", "meta"]


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """`images` are in the order of their tokens in `token_ids`."""

    token_ids: tuple[int, ...]
    images: tuple[Image, ...] = ()


def render_prompt(
    request: ChatRequest,
    tokenizer: Tokenizer,
    family: PromptFamily,
    *,
    today: date,
    style: PromptStyle = "hf",
    images_first: bool = True,
    tools_in_user_message: bool = True,
    add_generation_prompt: bool = True,
) -> RenderedPrompt:
    """The conversation as ids, ready for the model to go on as the assistant.

    `images_first` puts a message's images before its text (Meta's advice: only later tokens see
    them); else they stay where they stand. `tools_in_user_message` concerns `hf` alone.

    Raises InvalidValue for no messages, for an image that this family cannot see, and for one
    outside a user's message; CheckpointError when the tokenizer lacks a special token.
    """
    if not request.messages:
        raise InvalidValue(
            "messages is empty: expected at least one message, such as "
            '{"role": "user", "content": "Hello"}',
            param="messages",
        )
    _check_images(request.messages, family)
    _check_tools(request.tools)
    conversation = Conversation(request, tokenizer, family, today, images_first)
    if style == "hf":
        turns = hf_turns(conversation, tools_in_user_message)
    else:
        turns = meta_turns(conversation)
    writer = _Writer(tokenizer, apart=style == "meta")
    writer.special("<|begin_of_text|>")
    for turn in turns:
        writer.turn(turn)
    if add_generation_prompt:
        writer.header("assistant")
    return writer.finish()


class _Writer:
    """Turns into ids. `apart`: every piece is encoded for itself, as Meta's code does; else text is
    encoded from special token to special token, as a template's output is."""

    def __init__(self, tokenizer: Tokenizer, *, apart: bool) -> None:
        self._tokenizer = tokenizer
        self._apart = apart
        self._ids: list[int] = []
        self._images: list[Image] = []
        self._pending = ""

    def special(self, name: str) -> None:
        self._flush()
        self._ids.append(self._tokenizer.special(name))

    def text(self, text: str) -> None:
        self._pending += text
        if self._apart:
            self._flush()

    def header(self, role: str) -> None:
        self.special("<|start_header_id|>")
        self.text(role)
        self.special("<|end_header_id|>")
        self.text("\n\n")

    def turn(self, turn: Turn) -> None:
        self.header(turn.role)
        for piece in turn.pieces:
            match piece:
                case str():
                    self.text(piece)
                case Special():
                    self.special(piece.name)
                case Image():
                    self.special("<|image|>")
                    self._images.append(piece)
        self.special(turn.end)

    def finish(self) -> RenderedPrompt:
        self._flush()
        return RenderedPrompt(tuple(self._ids), tuple(self._images))

    def _flush(self) -> None:
        if self._pending:
            self._ids += self._tokenizer.encode(self._pending)
            self._pending = ""


def _check_images(messages: Iterable[Message], family: PromptFamily) -> None:
    for index, message in enumerate(messages):
        if not images_of(message):
            continue
        if family != "vision":
            raise InvalidValue(
                f"messages[{index}] holds an image, and this model reads text alone: "
                "send text, or ask a vision model",
                param=f"messages[{index}].content",
            )
        if message.role != "user":
            raise InvalidValue(
                f"messages[{index}] has role {message.role} and holds an image: images belong in "
                "messages with role user",
                param=f"messages[{index}].content",
            )


def _check_tools(tools: Sequence[ToolSpec]) -> None:
    for index, tool in enumerate(tools):
        try:
            tool_json(tool)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidValue(
                f"the parameters of tool {tool.name} cannot be written as JSON: {error}",
                param=f"tools[{index}].function.parameters",
            ) from None
