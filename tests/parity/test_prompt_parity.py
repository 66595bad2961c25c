"""Prompts against Meta's own ids, and against what the published chat templates render.

Meta's side is its real vocabulary and its `ChatFormat`. The templates' side is recorded: digests of
the ids of 48 conversations a family (`conversations.py`), rendered from the templates with jinja2
as transformers calls it (trim_blocks, lstrip_blocks), special tokens cut out, the rest encoded by
Meta's tokenizer. When they were recorded, 2,000 conversations a family came out the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
from pathlib import Path

import llama_models.llama3.tokenizer as meta
import PIL.Image
import pytest
from llama_models.datatypes import (
    BuiltinTool,
    RawMediaItem,
    RawMessage,
    RawTextItem,
    StopReason,
    ToolPromptFormat,
)
from llama_models.datatypes import ToolCall as MetaToolCall
from llama_models.llama3.chat_format import ChatFormat

from puna.chat import Image, Message, Text, ToolCall, ToolSpec, message, request
from puna.llama.config import PromptFamily
from puna.llama.prompt import PromptStyle, render_prompt
from puna.llama.tokenizer import Tokenizer
from tests.parity.conversations import TODAY, conversation

FAMILIES: list[PromptFamily] = ["3.1", "3.2", "vision"]
TEMPLATES = {
    "3.1": """
        23053a69 b53b05f3 432228af e1da8cef 28503269 90c2a2b0 846d12d9 9e4ddfa7
        c13e3259 e2e7391d 2ab5843a 1918d814 36136443 bcdd77c0 c890943f b570bd97
        caa29346 d85820a4 8a324565 93078d72 1d6b19a8 e349e963 af007f53 41d544c8
        a5fd2b61 a53c9372 27d5ed48 38724aac 27ecad99 1f7e6ec5 a324f15c 178afb31
        2d231e8a 08e59f02 2732c441 0f43fe8a 9b3ef681 8cb30e6b bea98e5f 4c73d25b
        d72cc555 420c0d35 479e9cdf 436c32c7 8f104b74 250e4335 ed550722 cb4ccf22
    """,
    "3.2": """
        c340f91d e0e24396 b5b357b5 2c9356a5 dd407cad cf0a062d a79e280a c52bbdd6
        05cd0b39 5352f80a 528f2d9e e817eef0 36db9347 ff967023 85718648 d7e096a3
        1e5ba775 f75097d9 50ac35a1 d1d6350a 7b9bb3fc aaaabe55 3454347b e7bfbcf4
        94faeeb6 e1d8e52b 21242e2f 4a2b7c7b 0d5a8d65 88fb0fd9 10ee38fa 92887e29
        581376a1 5d9b6a8a 79d274c9 8436bbc6 f7dfa9fe a449a926 694c0d66 9bfda0e2
        4e558226 8949b17e 26b9011f a9ffcbd7 a2071a1f 1bbd30da 4b063617 5e3e99c0
    """,
    "vision": """
        b088103e d6b96e9f ecbe53b6 1b6d6f6a cd6069f1 d1feebeb c316b179 d1eaf25a
        eef7a428 10b9dbea 0e45cb7a ee212b8b 608ebaef 1c364213 daa40012 cf44b83d
        888752e7 b2c27892 42c2c375 5520dbef 0d2ff11d be3a7877 20f2d7c7 df5733ac
        06811657 bbedb64e 5d037f52 45a23a25 4b7a0a02 9ec89088 97d245a2 447f815a
        01d59ec5 8288a084 bf6f8f05 1592c72f a67d200c 7b04c0f8 876d58a5 c90652a1
        a3979a1a b3458af9 73141991 f44fec23 3f6d5c96 d1863245 b0839f3c 9e9261eb
    """,
}
LESSON = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nEnvironment: ipython\n"
    "Tools: brave_search, wolfram_alpha\nCutting Knowledge Date: December 2023\n"
    "Today Date: 23 July 2024\n\nYou are a helpful assistant<|eot_id|>"
)
LESSON_IDS = (
    128000, 128006, 9125, 128007, 271, 13013, 25, 6125, 27993, 198, 16992, 25, 34300, 10947, 11,
    80714, 92604, 27731, 198, 38766, 1303, 33025, 2696, 25, 6790, 220, 2366, 18, 198, 15724, 2696,
    25, 220, 1419, 5887, 220, 2366, 19, 271, 2675, 527, 264, 11190, 18328, 128009, 128006, 882,
    128007, 271, 3923, 374, 279, 9282, 304, 53182, 30, 128009, 128006, 78191, 128007, 271,
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(Path(meta.__file__).parent / "tokenizer.model")


@pytest.fixture(scope="module")
def chat_format() -> ChatFormat:
    return ChatFormat(meta.Tokenizer.get_instance())


@pytest.mark.parametrize("style", ["hf", "meta"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_lessons_raw_prompt_becomes_the_lessons_ids(
    tokenizer: Tokenizer, family: PromptFamily, style: PromptStyle
) -> None:
    talk = [message("system", LESSON), message("user", "What is the weather in Stockholm?")]
    prompt = render_prompt(request(talk), tokenizer, family, today=TODAY, style=style)
    assert prompt.token_ids == LESSON_IDS


@pytest.mark.parametrize("family", FAMILIES)
def test_hf_prompts_are_those_of_the_published_template(
    tokenizer: Tokenizer, family: PromptFamily
) -> None:
    for seed, expected in enumerate(TEMPLATES[family].split()):
        ask, variables = conversation(family, seed)
        ids = render_prompt(
            ask,
            tokenizer,
            family,
            today=TODAY,
            tools_in_user_message=variables["tools_in_user_message"],
        ).token_ids
        digest = hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()[:8]
        assert digest == expected, f"conversation {seed}: {tokenizer.decode(ids)}"


def test_meta_prompts_of_plain_conversations_are_those_of_metas_code(
    tokenizer: Tokenizer, chat_format: ChatFormat
) -> None:
    for family in FAMILIES:
        for seed in range(200):
            ask, _ = conversation(family, seed)
            plain = [m for m in ask.messages if not m.tool_calls]
            theirs = [
                RawMessage(role=m.role, content=[RawTextItem(text=p.text) for p in m.content])
                for m in plain
                if all(isinstance(p, Text) for p in m.content)
            ]
            ours = [m for m in plain if all(isinstance(p, Text) for p in m.content)]
            if not ours:
                continue
            prompt = render_prompt(
                request(ours), tokenizer, family, today=TODAY, style="meta"
            ).token_ids
            assert list(prompt) == chat_format.encode_dialog_prompt(theirs).tokens


@pytest.mark.parametrize("order", ["image first", "image last", "two images"])
def test_meta_prompts_with_images_are_those_of_metas_code(
    tokenizer: Tokenizer, chat_format: ChatFormat, order: str
) -> None:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (2, 2)).save(buffer, "PNG")
    image, text = Image(buffer.getvalue()), Text("What's in this image?")
    parts = {
        "image first": (image, text),
        "image last": (text, image),
        "two images": (image, text, image),
    }[order]
    theirs = [
        RawTextItem(text=part.text) if isinstance(part, Text) else RawMediaItem(data=part.data)
        for part in parts
    ]
    prompt = render_prompt(
        request([message("system", "Describe."), Message("user", parts)]),
        tokenizer,
        "vision",
        today=TODAY,
        style="meta",
        images_first=False,
    )
    expected = chat_format.encode_dialog_prompt(
        [RawMessage(role="system", content="Describe."), RawMessage(role="user", content=theirs)]
    )
    assert list(prompt.token_ids) == expected.tokens
    assert len(prompt.images) == order.count("two") + 1


@pytest.mark.parametrize(
    ("name", "arguments", "stop", "family"),
    [
        ("get_weather", {"city": "Malmö", "days": 3, "dry": True}, StopReason.end_of_turn, "3.2"),
        ("code_interpreter", {"code": "print('hi')\n"}, StopReason.end_of_message, "3.1"),
    ],
)
def test_meta_calls_in_the_history_are_those_of_metas_code(
    tokenizer: Tokenizer,
    chat_format: ChatFormat,
    name: str,
    arguments: dict[str, object],
    stop: StopReason,
    family: PromptFamily,
) -> None:
    call = ToolCall("c", name, json.dumps(arguments))
    talk = [
        message("user", "Q"),
        message("assistant", tool_calls=(call,)),
        message("tool", "completed\n[stdout]3[/stdout]", tool_call_id="c"),
    ]
    tool_name = BuiltinTool(name) if name == "code_interpreter" else name
    theirs = [
        RawMessage(role="user", content="Q"),
        RawMessage(
            role="assistant",
            content="",
            stop_reason=stop,
            tool_calls=[MetaToolCall(call_id="c", tool_name=tool_name, arguments=arguments)],
        ),
        RawMessage(role="tool", content="completed\n[stdout]3[/stdout]"),
    ]
    # Where the tools are offered is the documents' affair, not this code's: compare the history.
    ask = request(talk, tools=(ToolSpec(name),))
    ids = list(render_prompt(ask, tokenizer, family, today=TODAY, style="meta").token_ids)
    expected = chat_format.encode_dialog_prompt(theirs, ToolPromptFormat.python_list).tokens[1:]
    assert ids[-len(expected) :] == expected
