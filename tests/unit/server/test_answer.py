from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.chat import (
    ChatEvent,
    Finished,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolResult,
    Usage,
)
from puna.errors import EngineFailed
from puna.server.answer import Choice, Chunks, Head, whole

HEAD = Head("chatcmpl-1", 1700000000, "m")
END = Finished("stop", Usage(3, 2, cached_tokens=1))
BASE = (
    'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m",'
    '"choices":['
)


def stream(*events: ChatEvent | tuple[int, ChatEvent], n: int = 1, usage: bool = False) -> bytes:
    chunks = Chunks(HEAD, n=n, include_usage=usage)
    out = list(chunks.opening())
    for event in events:
        index, event = event if isinstance(event, tuple) else (0, event)
        out += chunks.event(index, event)
    return b"".join([*out, *chunks.closing()])


def answer(*choices: list[ChatEvent], logprobs: bool = False) -> dict[str, Any]:
    collected = [Choice() for _ in choices]
    for choice, events in zip(collected, choices, strict=True):
        for event in events:
            choice.add(event)
    return whole(HEAD, collected, logprobs=logprobs)


def test_a_stream_of_text_byte_for_byte() -> None:
    assert stream(TextDelta("å😀\n"), END).decode() == (
        BASE + '{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
        + BASE + '{"index":0,"delta":{"content":"\\u00e5\\ud83d\\ude00\\n"},"finish_reason":null}]}'
        "\n\n"
        + BASE + '{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    )  # fmt: skip


def test_a_stream_with_usage_byte_for_byte() -> None:
    assert stream(END, usage=True).decode() == (
        BASE + '{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],'
        '"usage":null}\n\n'
        + BASE + '{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}\n\n'
        + BASE + '],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,'
        '"prompt_tokens_details":{"cached_tokens":1}}}\n\ndata: [DONE]\n\n'
    )  # fmt: skip


def test_a_tool_call_byte_for_byte() -> None:
    calls = stream(ToolCall("c1", "f", '{"a":1}'), ToolCall("c2", "g", ""), END).decode()
    empty = ',"finish_reason":null}]}\n\n'
    assert calls.split("\n\n", 1)[1] == (
        BASE + '{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function",'
        '"function":{"name":"f","arguments":""}}]}' + empty
        + BASE + '{"index":0,"delta":{"tool_calls":[{"index":0,'
        '"function":{"arguments":"{\\"a\\":1}"}}]}' + empty
        + BASE + '{"index":0,"delta":{"tool_calls":[{"index":1,"id":"c2","type":"function",'
        '"function":{"name":"g","arguments":""}}]}' + empty
        + BASE + '{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{}"}}]}'
        + empty
        + BASE + '{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    )  # fmt: skip


def test_choices_count_their_calls_apart() -> None:
    call = ToolCall("c", "f", "{}")
    lines = stream((0, call), (1, call), (1, call), (0, END), (1, END), n=2).decode().split("\n\n")
    numbers = [
        (choice["index"], choice["delta"]["tool_calls"][0]["index"])
        for choice in (json.loads(line[6:])["choices"][0] for line in lines[:-2])
        if "tool_calls" in choice["delta"] and "id" in choice["delta"]["tool_calls"][0]
    ]
    assert numbers == [(0, 0), (1, 0), (1, 1)]


EVENTS = st.lists(
    st.builds(TextDelta, st.text())
    | st.builds(ToolCall, st.text(), st.text(), st.text())
    | st.builds(ToolResult, st.builds(ToolCall, st.text(), st.text(), st.text()), st.text()),
    max_size=6,
)


@given(EVENTS)
def test_streamed_and_unstreamed_say_the_same(events: list[ChatEvent]) -> None:
    data = stream(*events, END)
    assert data.isascii()
    assert b"\r" not in data
    lines = data.split(b"\n")
    assert all(line == b"" or line.startswith(b"data: ") for line in lines)
    assert lines[1::2] == [b""] * (len(lines) // 2)
    text, calls, reasons = "", [], []
    for line in lines[:-4:2]:
        (choice,) = json.loads(line[6:])["choices"]
        text += choice["delta"].get("content") or ""
        for call in choice["delta"].get("tool_calls", ()):
            if "id" in call:
                calls.append([call["id"], call["function"]["name"], ""])
            calls[call["index"]][2] += call["function"]["arguments"]
        reasons.append(choice["finish_reason"])
    assert set(reasons[:-1]) == {None} or len(reasons) == 1
    (choice,) = answer([*events, END])["choices"]
    assert (choice["message"]["content"] or "") == text
    assert [
        [call["id"], call["function"]["name"], call["function"]["arguments"]]
        for call in choice["message"].get("tool_calls", ())
    ] == calls


def test_content_is_a_string_unless_there_are_calls_alone() -> None:
    call = ToolCall("c", "f", "{}")
    assert answer([END])["choices"][0]["message"] == {"role": "assistant", "content": ""}
    (alone,) = answer([call, END])["choices"]
    assert alone["message"]["content"] is None
    (both,) = answer([TextDelta("x"), call, END])["choices"]
    assert both["message"]["content"] == "x"
    assert both["message"]["tool_calls"][0]["type"] == "function"


def test_usage_counts_the_prompt_once_and_every_choices_tokens() -> None:
    usage = answer([END], [Finished("length", Usage(3, 5))])["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (3, 7, 10)


def test_logprobs_are_there_only_when_asked_for() -> None:
    token = TokenLogprob("é", "é".encode(), -0.5, (TokenLogprob("e", b"e", float("-inf")),))
    events: list[ChatEvent] = [TextDelta("é", (token,)), END]
    assert answer(events)["choices"][0]["logprobs"] is None
    assert answer(events, logprobs=True)["choices"][0]["logprobs"] == {
        "content": [
            {
                "token": "é",
                "logprob": -0.5,
                "bytes": [195, 169],
                "top_logprobs": [{"token": "e", "logprob": -9999.0, "bytes": [101]}],
            }
        ]
    }


def test_an_answer_without_an_end_is_a_failure_and_never_passed_off_as_whole() -> None:
    with pytest.raises(EngineFailed):
        answer([TextDelta("half")])
    with pytest.raises(EngineFailed):
        stream(TextDelta("half"))
    with pytest.raises(EngineFailed):
        stream((0, END), n=2)
