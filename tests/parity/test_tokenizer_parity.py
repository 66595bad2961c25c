"""The tokenizer against Meta's own, with the real vocabulary."""

from __future__ import annotations

import random
from pathlib import Path

import llama_models.llama3.tokenizer as meta
import pytest

from puna.chat import TextDelta, ToolCall, ToolSpec
from puna.llama.reply import ReplyParser
from puna.llama.tokenizer import LONGEST_RUN, Tokenizer

FILE = Path(meta.__file__).parent / "tokenizer.model"

SCRIPTS = [
    (0x20, 0x7E), (0xA0, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F),
    (0x530, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0x980, 0xDFF), (0xE00, 0xEFF),
    (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1680, 0x169F), (0x1E00, 0x1FFF), (0x2000, 0x206F),
    (0x2070, 0x218F),
    (0x2190, 0x2BFF), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xE0FF),
    (0xFE00, 0xFFFD), (0x10000, 0x104FF), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF),
    (0x20000, 0x20FFF), (0, 0x1F), (0x7F, 0x9F),
]  # fmt: skip
SCRAPS = [
    " ", "  ", "   ", "\n", "\r\n", "\t", "\n\n", " \n ", "\u00a0", "\u3000", "\u200b", "\u0085",
    "\u2028", "'s", "'LL", "'ſ", "don't", "İ", "K", "12345", "3.14", "٣٤٥", "²³", "Ⅷ", "...",
    "?!\n",
    "<|eot_id|>", "<|begin_of_text|>", "<|python_tag|>", "{\"a\": [1]}", "Stockholm", "weather",
    "\\frac{1}{2}", "👩‍👩‍👧", "🇸🇪", "e\u0301", "ﷺ", "한국어", "สวัสดี",
]  # fmt: skip


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    return Tokenizer.from_file(FILE)


@pytest.fixture(scope="module")
def theirs() -> meta.Tokenizer:
    return meta.Tokenizer.get_instance()


def a_text(rng: random.Random) -> str:
    pieces: list[str] = []
    for _ in range(rng.randint(1, 20)):
        if rng.random() < 0.5:
            pieces.append(rng.choice(SCRAPS))
        else:
            first, last = rng.choice(SCRIPTS)
            pieces += [chr(rng.randint(first, last)) for _ in range(rng.randint(1, 6))]
    return "".join(pieces)


def test_fuzzed_text_in_all_scripts_gives_metas_ids(
    ours: Tokenizer, theirs: meta.Tokenizer
) -> None:
    rng = random.Random(20261123)
    for _ in range(5000):
        text = a_text(rng)
        ids = theirs.encode(text, bos=False, eos=False)
        assert ours.encode(text) == ids, repr(text)
        assert ours.decode(ids) == text


def test_characters_from_all_of_unicode_give_metas_ids(
    ours: Tokenizer, theirs: meta.Tokenizer
) -> None:
    code_points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for start in range(0, len(code_points), 8 * 64):
        text = "\n\n".join(map(chr, code_points[start : start + 64]))
        assert ours.encode(text) == theirs.encode(text, bos=False, eos=False)


@pytest.mark.parametrize("unit", ["a", " ", "1", "\n", "é", "中", "!", "\t \n", "ab ", "'s"])
@pytest.mark.parametrize("length", [LONGEST_RUN, LONGEST_RUN + 1, 3 * LONGEST_RUN + 7])
def test_long_runs_give_metas_ids(
    ours: Tokenizer, theirs: meta.Tokenizer, unit: str, length: int
) -> None:
    text = "x " + (unit * length)[:length] + " y"
    assert ours.encode(text) == theirs.encode(text, bos=False, eos=False)


def test_lone_surrogates_give_metas_ids(ours: Tokenizer, theirs: meta.Tokenizer) -> None:
    for text in ("a\ud800b", "\udfff\ud800", "\ud83d\ude42"):
        assert ours.encode(text) == theirs.encode(text, bos=False, eos=False)


def test_every_token_has_metas_bytes(ours: Tokenizer, theirs: meta.Tokenizer) -> None:
    for token_id in range(128_000):
        assert ours.token_bytes(token_id) == theirs.model.decode_single_token_bytes(token_id)


def test_special_tokens_have_metas_ids(ours: Tokenizer, theirs: meta.Tokenizer) -> None:
    for name, expected in theirs.special_tokens.items():
        if name in ours.special_names and not name.startswith("<|reserved") and "image" not in name:
            assert ours.special(name) == expected
    assert ours.special("<|image|>") == 128_256
    assert ours.stop_ids == (128_001, 128_008, 128_009)
    assert len([name for name in ours.special_names if ours.special(name) < 128_256]) == 256


def test_the_lessons_answer_is_content_with_its_tag_and_a_call_when_offered(
    ours: Tokenizer,
) -> None:
    answer = (128010, 1347, 525, 10947, 8692, 10974, 429, 19931, 34605, 9282, 909, 128008)
    for tools, text, why in (
        ((), '<|python_tag|>brave_search.call(query="Stockholm weather")', "stop"),
        ((ToolSpec("brave_search"),), "", "tool_calls"),
    ):
        parser = ReplyParser(ours, tools)
        events = [event for token_id in answer for event in parser.feed(token_id)]
        last, reason = parser.finish("stop")
        events += last
        assert "".join(e.text for e in events if isinstance(e, TextDelta)) == text
        calls = [(e.name, e.arguments) for e in events if isinstance(e, ToolCall)]
        assert calls == [("brave_search", '{"query": "Stockholm weather"}')] * len(tools)
        assert reason == why
