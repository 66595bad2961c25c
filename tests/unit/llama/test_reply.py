"""The reply parser: the same events for every way of cutting the stream, and no half calls.

In the answers written here § stands for the python tag, the special token.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Sequence
from itertools import count
from typing import Any, Literal, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.chat import TextDelta, TokenLogprob, ToolCall, ToolSpec
from puna.errors import InvalidValue
from puna.llama.reply import ReplyEvent, ReplyParser, new_call_id
from puna.llama.stops import StopStrings
from tests.tiny_tokenizer import FIRST_BYTE, SPECIALS, tiny_tokenizer, vocabulary

NAMES = ("brave_search", "wolfram_alpha", "f", "g", "get_weather")
TOOLS = [ToolSpec(name) for name in NAMES]
CODING = [*TOOLS, ToolSpec("code_interpreter")]
BYTE_IDS = {token[0]: FIRST_BYTE + i for i, token in enumerate(vocabulary()) if len(token) == 1}

Told = tuple[list[Any], str]  # texts and (name, arguments), in order; finish reason


def ids_of(answer: str, cut: random.Random | None = None) -> list[int]:
    """Token ids of an answer; `cut` decides where tokens are single bytes."""
    ids: list[int] = []
    for index, part in enumerate(answer.split("§")):
        if index:
            ids.append(SPECIALS["<|python_tag|>"])
        if cut is None:
            ids += tiny_tokenizer().encode(part)
            continue
        while part:
            size = cut.choice((1, 2, 5, 40))
            piece, part = part[:size], part[size:]
            if cut.random() < 0.5:
                ids += [BYTE_IDS[byte] for byte in piece.encode()]
            else:
                ids += tiny_tokenizer().encode(piece)
    return ids


def events_of(
    ids: Sequence[int],
    tools: Sequence[ToolSpec] = TOOLS,
    reason: Literal["stop", "length"] = "stop",
    **options: Any,
) -> tuple[list[ReplyEvent], str]:
    numbers = count()
    parser = ReplyParser(
        tiny_tokenizer(), tools, call_id=lambda: f"call_{next(numbers)}", **options
    )
    events = [event for token_id in ids for event in parser.feed(token_id)]
    last, why = parser.finish(reason)
    return events + last, why


def told(events: Sequence[ReplyEvent], why: str) -> Told:
    parts: list[Any] = []
    for event in events:
        if isinstance(event, ToolCall):
            parts.append((event.name, json.loads(event.arguments)))
        elif event.text and parts and isinstance(parts[-1], str):
            parts[-1] += event.text
        elif event.text:
            parts.append(event.text)
    return parts, why


def read(
    answer: str,
    tools: Sequence[ToolSpec] = TOOLS,
    end: str | None = "<|eot_id|>",
    reason: Literal["stop", "length"] = "stop",
    **options: Any,
) -> Told:
    ids = [*ids_of(answer), *([SPECIALS[end]] if end else [])]
    return told(*events_of(ids, tools, reason, **options))


def cut_off(answer: str, tools: Sequence[ToolSpec] = TOOLS) -> Told:
    return read(answer, tools, end=None, reason="length")


def calls(*found: tuple[str, dict[str, Any]]) -> Told:
    return list(found), "tool_calls"


def content(text: str) -> Told:
    return [text], "stop"


# --- without tools ------------------------------------------------------------------------------


def test_without_tools_the_lessons_answer_is_content_with_its_tag() -> None:
    answer = '§brave_search.call(query="Stockholm weather")'
    expected = '<|python_tag|>brave_search.call(query="Stockholm weather")'
    assert read(answer, tools=[], end="<|eom_id|>") == content(expected)


@pytest.mark.parametrize("answer", ['{"name": "f", "parameters": {}}', "<function=f>{}</function>"])
def test_without_tools_nothing_becomes_a_call_and_nothing_waits(answer: str) -> None:
    parser = ReplyParser(tiny_tokenizer())
    for token_id in ids_of(answer):
        assert parser.feed(token_id) == [TextDelta(tiny_tokenizer().token_text(token_id))]
    assert parser.finish("stop") == ([], "stop")


@pytest.mark.parametrize("end", ["<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"])
def test_an_end_token_ends_the_answer_and_leaves_no_text(end: str) -> None:
    parser = ReplyParser(tiny_tokenizer(), TOOLS)
    assert parser.feed(ids_of("a")[0]) == [TextDelta("a")]
    assert not parser.ended
    assert parser.feed(SPECIALS[end]) == []
    assert parser.ended
    assert parser.feed(ids_of("b")[0]) == []
    assert parser.finish("stop") == ([], "stop")


def test_other_special_tokens_leave_no_text() -> None:
    ids = [*ids_of("a"), SPECIALS["<|start_header_id|>"], SPECIALS["<|image|>"], *ids_of("b")]
    assert told(*events_of(ids)) == content("ab")


def test_half_a_character_is_never_told() -> None:
    ids = [BYTE_IDS[byte] for byte in "🙂".encode()]
    parser = ReplyParser(tiny_tokenizer())
    assert [parser.feed(i) for i in ids] == [[], [], [], [TextDelta("🙂")]]
    assert told(*events_of(ids[:2])) == content("\ufffd")
    assert told(*events_of([*ids[:2], SPECIALS["<|python_tag|>"]], [])) == content(
        "\ufffd<|python_tag|>"
    )


# --- the dialects -------------------------------------------------------------------------------

SEARCHES = [
    ('§brave_search.call(query="Stockholm weather")', "Stockholm weather"),
    ('§ brave_search.call(query = "x" )\n', "x"),
    ("§brave_search.call(query='it's')", "it's"),
    ('§brave_search.call("x")', "x"),
    ('§brave_search.call(query="who said "to be" (or not")?")', 'who said "to be" (or not")?'),
    (r'§brave_search.call(query="say \"hi\"")', 'say "hi"'),
    (r'§brave_search.call(query="\frac{1}{2} \n \\ \u00e9")', r"\frac{1}{2} \n \\ \u00e9"),
    ('§brave_search.call(query="a, b=1) {\'[")', "a, b=1) {'["),
    ('§brave_search.call(query="två\nrader 🙂")', "två\nrader 🙂"),
    ('§brave_search.call(query="")', ""),
]


@pytest.mark.parametrize(("answer", "query"), SEARCHES)
def test_a_built_in_call_holds_all_between_its_first_quote_and_its_last(
    answer: str, query: str
) -> None:
    assert read(answer, end="<|eom_id|>") == calls(("brave_search", {"query": query}))
    assert read(answer, end="<|eot_id|>") == calls(("brave_search", {"query": query}))


@pytest.mark.parametrize(
    "answer",
    [
        'brave_search.call(query="x")',
        '<|python_tag|>brave_search.call(query="x")',
        '§photogen.call(query="x")',
        "§brave_search.call(query=x)",
        "§brave_search.call()",
        '§Brave_search.call(query="x")',
        '§§brave_search("x")',
    ],
)
def test_what_only_resembles_a_built_in_call_is_content(answer: str) -> None:
    assert read(answer) == content(answer.replace("§", "<|python_tag|>"))


def test_code_is_all_that_follows_the_tag() -> None:
    for source in ('print("hi")\n', "[x for x in y]", '{"a": 1}["a"]', "f(1)", "x = {'name': f}"):
        assert read("§" + source, CODING) == calls(("code_interpreter", {"code": source}))
    written = '§code_interpreter.call(code="print("1")")'
    assert read(written, CODING) == calls(("code_interpreter", {"code": 'print("1")'}))


def test_code_is_content_when_no_interpreter_was_offered() -> None:
    assert read("§print(1)") == content("<|python_tag|>print(1)")


def test_code_does_not_swallow_calls_to_what_was_offered() -> None:
    for answer in ("§f(a=1)", '§{"name": "f", "parameters": {"a": 1}}', "§[f(a=1)]"):
        assert read(answer, CODING) == calls(("f", {"a": 1}))


JSON_CALLS = [
    '{"name": "f", "parameters": {"a": 1}}',
    '§{"name": "f", "parameters": {"a": 1}}',
    ' \n{ "name" : "f" , "parameters" : {"a":1} } ',
    '{"type": "function", "name": "f", "parameters": {"a": 1}}',
    '{"type": "function", "function": {"name": "f", "parameters": {"a": 1}}}',
    '{"type": "function", "function": "f", "parameters": {"a": 1}}',
    '{"parameters": {"a": 1}, "name": "f"}',
    '{"name": "f", "arguments": {"a": 1}}',
    '{"id": "x", "name": "f", "parameters": {"a": 1}}',
    "{'name': 'f', 'parameters': {'a': 1}}",
    r'{"n\u0061me": "f", "parameters": {"a": 1}}',
    '[{"name": "f", "parameters": {"a": 1}}]',
    '§[{"name": "f", "parameters": {"a": 1}}, ]',
]


@pytest.mark.parametrize("answer", JSON_CALLS)
def test_a_json_call_is_found_in_all_its_variants(answer: str) -> None:
    assert read(answer) == calls(("f", {"a": 1}))


@pytest.mark.parametrize("between", ["; ", ", ", "\n", "", ";\n\n", " "])
def test_several_json_calls_are_found_however_they_are_joined(between: str) -> None:
    answer = between.join(f'{{"name": "{name}", "parameters": {{}}}}' for name in ("f", "g", "f"))
    assert read(answer) == calls(("f", {}), ("g", {}), ("f", {}))
    assert read("§" + answer) == calls(("f", {}), ("g", {}), ("f", {}))
    assert read(f"[{answer}]") == calls(("f", {}), ("g", {}), ("f", {})) or "," not in between


@pytest.mark.parametrize(
    "answer",
    [
        '{"name": "h", "parameters": {}}',
        '{"name": "Bob", "age": 3}',
        '{"name": "f"}',
        '{"name": "f", "parameters": "{}"}',
        '{"name": "f", "parameters": [1]}',
        '{"name": ["f"], "parameters": {}}',
        '{"type": "object", "name": "f", "parameters": {}}',
        '{"name": "f", "parameters": {"a": f()}}',
        '{"name": "f", "parameters": {1: 2}}',
        '{"name": "f", "parameters": {"a": ]}',
        '{"answer": {"name": "f", "parameters": {}}}',
        "{}",
        "[]",
        "[1, 2]",
        '["f"]',
        'Sure: {"name": "f", "parameters": {}}',
        "```json\n[f(a=1)]\n```",
        "Call f(a=1).",
        "[f](http://x)",
        "[f(1)]",
        "[f(a=1), and so on]",
        "[h(a=1)]",
        "f(x)",
        "f (a=1)",
        "f(a=open('x'))",
        "f(a=1, a=2)",
        "f(a={1, 2})",
        "f(a=b'x')",
        "f(**{'a': 1})",
        "<function=h>{}</function>",
        "<function=f>a=1</function>",
        "<function=f>[1]</function>",
        "<function>f</function>",
        "<function=f",
        "a < b > c <function",
    ],
)
def test_what_is_no_call_to_an_offered_tool_is_content_as_it_was_written(answer: str) -> None:
    assert read(answer) == content(answer)


def test_arguments_keep_their_types() -> None:
    value = {"i": -1, "f": 2.5, "b": True, "n": None, "l": [1, [2, {"x": "é"}]], "d": {}, "s": "1"}
    assert read(json.dumps({"name": "f", "parameters": value})) == calls(("f", value))
    assert read(repr({"name": "f", "parameters": value})) == calls(("f", value))
    keywords = ", ".join(f"{name}={item!r}" for name, item in value.items())
    assert read(f"[f({keywords})]") == calls(("f", value))
    assert read(f"f({keywords})") == calls(("f", value))
    assert read("f(a=true, b=null, c=(1, 2))") == calls(("f", {"a": True, "b": None, "c": [1, 2]}))


def test_empty_strings_end_where_they_end() -> None:
    for answer in ("f(a='', b=\"\", c=['', ''])", "[f(a='', b=\"\", c=['', \"\"])]"):
        assert read(answer) == calls(("f", {"a": "", "b": "", "c": ["", ""]}))
    assert read("f(a='''''', b=1)") == calls(("f", {"a": "", "b": 1}))
    assert read("f(a=''', b=1''')") == calls(("f", {"a": ", b=1"}))


def test_argument_names_may_be_reserved_words() -> None:
    assert read("[f(from='A', class=1)]") == calls(("f", {"from": "A", "class": 1}))


def test_latex_survives_in_json() -> None:
    answer = r'{"name": "f", "parameters": {"q": "\alpha + \(x\) \\frac it\'s \u00e9"}}'
    assert read(answer) == calls(("f", {"q": r"\alpha + \(x\) \frac it's é"}))


def test_numbers_beyond_the_range_of_a_float_become_the_greatest() -> None:
    most = sys.float_info.max
    given = '{"a": 1e999, "b": -1e999, "c": %s}' % ("9" * 5000)
    expected = calls(("f", {"a": most, "b": -most, "c": most}))
    assert read(f'{{"name": "f", "parameters": {given}}}') == expected
    assert read(f"<function=f>{given}</function>") == expected
    assert read("[f(a=1e999, b=-1e999)]") == calls(("f", {"a": most, "b": -most}))


def test_what_reads_like_a_call_of_a_strict_tool_counts_only_if_it_was_guarded() -> None:
    tools = [ToolSpec("f", strict=True), ToolSpec("g"), ToolSpec("brave_search", strict=True)]
    for answer in (
        "{'name': 'f', 'parameters': {}}", "f(a=1)", "<function=f>{}</function>",
        '§brave_search.call(query="x")',
    ):  # fmt: skip
        assert read(answer, tools, guarded=lambda: False) == content(
            answer.replace("§", "<|python_tag|>")
        )
        assert read(answer, tools, guarded=lambda: True)[1] == "tool_calls"
    assert read("g(a=1)", tools, guarded=lambda: False) == calls(("g", {"a": 1}))


def test_raw_line_breaks_in_strings_are_read() -> None:
    assert read('{"name": "f", "parameters": {"a": "x\ny"}}') == calls(("f", {"a": "x\ny"}))
    assert read('f(a="""x "y"\n""", b=\'\')') == calls(("f", {"a": 'x "y"\n', "b": ""}))


def test_a_tagged_call_is_found_anywhere() -> None:
    for body in ('{"a": "</function>"}', " {'a': '</function>'}\n"):
        answer = f"First.\n<function=f>{body}</function> Then <function=g></function>."
        found, why = read(answer)
        assert found == [
            "First.\n",
            ("f", {"a": "</function>"}),
            " Then ",
            ("g", {}),
            ".",
        ]
        assert why == "tool_calls"


def test_a_tagged_call_needs_no_closing_tag() -> None:
    assert read('<function=f>{"a": 1}') == calls(("f", {"a": 1}))
    assert read("<function=f>{}<function=g>{}") == calls(("f", {}), ("g", {}))


def test_the_tag_opens_a_call_after_prose_too() -> None:
    expected = ["Let me see.\n", ("brave_search", {"query": "x"})], "tool_calls"
    assert read('Let me see.\n§brave_search.call(query="x")') == expected


def test_several_tags_open_several_calls() -> None:
    answer = '§brave_search.call(query="a")\n§wolfram_alpha.call(query="b")'
    assert read(answer) == calls(
        ("brave_search", {"query": "a"}), ("wolfram_alpha", {"query": "b"})
    )


def test_prose_behind_calls_is_content_and_blanks_alone_are_dropped() -> None:
    call = '{"name": "f", "parameters": {}}'
    assert read(call + "\n\nDone.") == ([("f", {}), "\n\nDone."], "tool_calls")
    assert read(call + " ;\n ") == calls(("f", {}))
    assert read(call + '\nor {"name": "g", "parameters": {}}')[0][0] == ("f", {})
    assert len(read(call + '\nor {"name": "g", "parameters": {}}')[0]) == 2
    found, _ = read('§brave_search.call(query="x")\nThat was it.')
    assert found == [("brave_search", {"query": "x"}), "\nThat was it."]


def test_of_a_list_the_calls_that_were_offered_count_and_the_others_stay() -> None:
    answer = '[f(a=1), h(b=2), {"name": "g", "parameters": {}}]'
    assert read(answer) == ([("f", {"a": 1}), "h(b=2)", ("g", {})], "tool_calls")


def test_parallel_calls_can_be_switched_off() -> None:
    assert read("[f(), g()]", parallel=False) == calls(("f", {}))


def test_nesting_is_read_to_a_depth_of_64_and_no_deeper() -> None:
    def nested(depth: int) -> str:
        return '{"name": "f", "parameters": {"a": ' + "[" * depth + "]" * depth + "}}"

    assert read(nested(60))[1] == "tool_calls"
    assert read(nested(70)) == content(nested(70))
    assert read(nested(5000)) == content(nested(5000))


@pytest.mark.parametrize(
    "value",
    [
        "-" * 30_000 + "1",
        "1+" * 30_000 + "1",
        "9" * 30_000 + "x",
        "a." * 30_000 + "a",
        "x" * 101_000,
    ],
)
def test_values_made_to_break_the_parser_are_content(value: str) -> None:
    assert read(f"f(a={value})") == content(f"f(a={value})")


# --- holding back -------------------------------------------------------------------------------


def told_at(answer: str, tools: Sequence[ToolSpec] = TOOLS) -> list[str]:
    """What is told at each character."""
    parser = ReplyParser(tiny_tokenizer(), tools)
    steps: list[str] = []
    for char in answer:
        events = [event for token_id in ids_of(char) for event in parser.feed(token_id)]
        steps.append("".join(e.text if isinstance(e, TextDelta) else "CALL" for e in events))
    return steps


def test_prose_is_told_at_once() -> None:
    assert told_at("Hello, it is <b>: f(") == [*"Hello, it is ", "", "<b", *">: f("]


def test_json_that_is_no_call_is_told_as_soon_as_its_first_key_shows_it() -> None:
    assert told_at('{"names": 1}')[:9] == [""] * 6 + ['{"names'] + list('":')
    assert told_at('{"name": "Bob"}')[10] == '{"name": "B'
    assert told_at('[{"x')[-1] == '[{"x'


def test_a_call_is_told_with_its_last_character() -> None:
    for answer in ('{"name": "f", "parameters": {}}', "[f(a=1)]", "f(a=')')"):
        assert told_at(answer) == [""] * (len(answer) - 1) + ["CALL"]


def test_a_name_is_held_only_while_it_may_be_one_that_was_offered() -> None:
    assert told_at("get_weight") == [""] * 6 + ["get_wei", "g", "h", "t"]


# --- cut off ------------------------------------------------------------------------------------

WHOLE = [
    '§brave_search.call(query="Stockholm weather")',
    '{"name": "f", "parameters": {"a": {"b": "}"}}}',
    "[f(a=1), g(b='x')]",
    "f(a=(1, 2))",
    '<function=f>{"a": 1}</function>',
    "§print(1)\nprint(2)",
]


@pytest.mark.parametrize("answer", WHOLE)
def test_a_call_that_is_cut_off_is_content_as_far_as_it_came(answer: str) -> None:
    shortest = next(
        (n for n in range(len(answer)) if cut_off(answer[:n], CODING)[0][-1:] and
         isinstance(cut_off(answer[:n], CODING)[0][-1], tuple)),
        len(answer),
    )  # fmt: skip
    for length in range(1, shortest):
        text = answer[:length].replace("§", "<|python_tag|>")
        assert cut_off(answer[:length], CODING) == ([text], "length")
    assert shortest >= len(answer.removesuffix("</function>"))


def test_length_wins_over_tool_calls() -> None:
    assert cut_off("[f()] and so") == ([("f", {}), " and so"], "length")


def test_a_built_in_call_is_whole_only_when_the_model_ended_it() -> None:
    # For all we know a query with quotes in it was to go on.
    answer = '§brave_search.call(query="a (or "b")'
    assert cut_off(answer) == ([answer.replace("§", "<|python_tag|>")], "length")


# --- stop strings -------------------------------------------------------------------------------


def test_a_stop_string_ends_the_answer_before_it() -> None:
    assert read("one two three", stop=["two"]) == content("one ")
    assert read("one two three", stop=["two", "one t"]) == ([], "stop")
    assert read("one two", stop=["two!"]) == content("one two")


def test_the_parser_says_when_a_stop_string_came() -> None:
    parser = ReplyParser(tiny_tokenizer(), stop=["b"])
    parser.feed(ids_of("a")[0])
    assert not parser.ended
    parser.feed(ids_of("b")[0])
    assert parser.ended
    assert parser.finish("stop") == ([], "stop")


def test_a_stop_string_within_a_call_cuts_it_off() -> None:
    answer = '{"name": "f", "parameters": {"a": "STOP"}}'
    assert read(answer, stop=["STOP"]) == content('{"name": "f", "parameters": {"a": "')
    assert read("§print(1)#STOP", CODING, stop=["#"]) == content("<|python_tag|>print(1)")


def test_the_python_tag_may_be_a_stop_string() -> None:
    assert read("a§b", stop=["<|python_tag|>"]) == content("a")
    assert read("a<|python_tag|>b", stop=["<|python_tag|>"]) == content("a")


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(InvalidValue, match="empty string") as error:
        StopStrings(["x", ""])
    assert error.value.param == "stop"


@settings(deadline=None)
@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=5)), st.data())
def test_stop_strings_do_the_same_for_every_cut(text: str, stops: list[str], data: Any) -> None:
    ends = [(text.index(stop) + len(stop), -len(stop)) for stop in stops if stop in text]
    expected = text[: sum(min(ends))] if ends else text
    stopper = StopStrings(stops)
    out, rest = "", text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        out += stopper.feed(rest[:size])
        assert expected.startswith(out)
        rest = rest[size:]
    assert out + stopper.finish() == expected
    assert (stopper.hit is not None) == bool(ends)


# --- logprobs and ids ---------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [*WHOLE, "Hello 🙂, <b>", "a<function=f>{}</function>b", ""])
def test_every_logprob_is_told_once_and_in_order(answer: str) -> None:
    parser = ReplyParser(tiny_tokenizer(), CODING, stop=["zzz"])
    ids = [*ids_of(answer), SPECIALS["<|eot_id|>"]]
    sent = [TokenLogprob(str(i), b"", -float(i)) for i in range(len(ids))]
    events = [e for i, lp in zip(ids, sent, strict=True) for e in parser.feed(i, lp)]
    events += parser.finish("stop")[0]
    # All but that of the stop token, which is no text.
    assert [lp for e in events if isinstance(e, TextDelta) for lp in e.logprobs] == sent[:-1]


@pytest.mark.parametrize(
    ("tokens", "stop", "told_tokens"),
    [
        (["a", "ST", "OP", "b"], "STOP", ["a"]),
        (["aST", "OP"], "STOP", ["aST"]),
        (["aa", "a", "b"], "aab", ["aa"]),
        (["STOP"], "STOP", []),
        (["ST", "a"], "STOP", ["ST", "a"]),
        (["ST"], "STOP", ["ST"]),
    ],
)
def test_the_logprobs_of_a_stop_string_go_unsaid(
    tokens: list[str], stop: str, told_tokens: list[str]
) -> None:
    class Words:
        """As much of a tokenizer as the parser needs: every word is a token."""

        stop_ids = ()

        def is_special(self, token_id: int) -> bool:
            return False

        def token_bytes(self, token_id: int) -> bytes:
            return tokens[token_id].encode()

    parser = ReplyParser(cast(Any, Words()), TOOLS, stop=[stop])
    events: list[ReplyEvent] = []
    for number, token in enumerate(tokens):
        events += parser.feed(number, TokenLogprob(token, b"", -1.0))
    events += parser.finish("stop")[0]
    said = [lp.token for e in events if isinstance(e, TextDelta) for lp in e.logprobs]
    assert said == told_tokens


def test_logprobs_come_with_their_text() -> None:
    parser = ReplyParser(tiny_tokenizer(), TOOLS)
    for char in "Hi":
        logprob = TokenLogprob(char, char.encode(), -1.0)
        assert parser.feed(ids_of(char)[0], logprob) == [TextDelta(char, (logprob,))]


def test_call_ids_are_unlike_each_other() -> None:
    ids = {new_call_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(one.startswith("call_") for one in ids)


# --- fuzz ---------------------------------------------------------------------------------------

SCRAPS = st.sampled_from(
    ["§", "{", "}", "[", "]", "(", ")", '"', "'", "\\", ",", ";", "\n", " ", "=", ":", "<", ">",
     "f", "g(", "f(a=1)", "[f(", '{"name": "f", "parameters": {', '{"name": "', "{}", '"a": 1',
     "brave_search.call(", 'query="', '")', "<function=f>", "</function>", "print(1)", "é", "🙂",
     "\\frac", "None", "true", "-1", "'''", '"""']
)  # fmt: skip
JUNK = (
    st.lists(SCRAPS | st.text(max_size=4), max_size=14)
    .map("".join)
    .map(lambda text: text.replace("\udc00", ""))
)


@settings(max_examples=150, deadline=None)
@given(JUNK, st.randoms(use_true_random=False), st.booleans(), st.sampled_from(["stop", "length"]))
def test_however_the_stream_is_cut_the_events_are_the_same(
    answer: str, cut: random.Random, coding: bool, reason: Literal["stop", "length"]
) -> None:
    tools = CODING if coding else TOOLS
    whole = told(*events_of(ids_of(answer), tools, reason))
    assert told(*events_of(ids_of(answer, cut), tools, reason)) == whole


@settings(max_examples=100, deadline=None)
@given(JUNK)
def test_what_is_not_called_is_told(answer: str) -> None:
    parts, _ = read(answer)
    text = "".join(part for part in parts if isinstance(part, str))
    if not any(isinstance(part, tuple) for part in parts):
        assert text == answer.replace("§", "<|python_tag|>")
    for part in parts:
        assert isinstance(part, str) or part[0] in NAMES
    assert "".join(read(answer, tools=[])[0]) == answer.replace("§", "<|python_tag|>")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
NAMED = st.dictionaries(st.text(max_size=3).filter(str.isidentifier), VALUES, max_size=3)


@settings(max_examples=100, deadline=None)
@given(NAMED)
def test_any_arguments_come_back_from_every_dialect(value: dict[str, Any]) -> None:
    keywords = ", ".join(f"{name}={item!r}" for name, item in value.items())
    for answer in (
        json.dumps({"name": "f", "parameters": value}),
        json.dumps({"name": "f", "parameters": value}, ensure_ascii=False),
        json.dumps({"name": "f", "parameters": value}, indent=4),
        repr({"name": "f", "parameters": value}),
        f"<function=f>{json.dumps(value)}</function>",
        f"[f({keywords})]",
        f"f({keywords})",
    ):
        if "§" not in answer:
            assert read(answer) == calls(("f", value)), answer


@settings(max_examples=100, deadline=None)
@given(st.text().filter(lambda text: "§" not in text))
def test_any_query_without_backslashes_comes_back_from_a_built_in_call(query: str) -> None:
    query = query.replace("\\", "")
    answer = f'§brave_search.call(query="{query}")'
    assert read(answer) == calls(("brave_search", {"query": query}))


@pytest.mark.parametrize(
    "scrap",
    ["§", "<", " ", "[", "<function=f>{", '<function=f>{"', "[f('", "§[f(", "§f(a='x')", "{'name':",
     "f(a=1),", "f(a=\\", ";", '§brave_search.call("'],
)  # fmt: skip
@pytest.mark.parametrize("before", ["", "§brave_search.call("])
def test_no_answer_takes_quadratic_time(before: str, scrap: str) -> None:
    ids = ids_of(before) + ids_of(scrap) * (10_000 // len(scrap))
    start = time.perf_counter()
    events_of(ids, TOOLS)
    events_of(ids, CODING)
    assert time.perf_counter() - start < 8  # about 0.1 s; in quadratic time it would be minutes
