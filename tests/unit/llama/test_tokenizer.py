"""The tokenizer, over a vocabulary of 300 tokens whose special ids are nowhere near 128000."""

from __future__ import annotations

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.errors import CheckpointError
from puna.llama.tokenizer import LONGEST_RUN, StreamDecoder, Tokenizer
from tests.tiny_tokenizer import (
    FIRST_BYTE,
    SPECIALS,
    gguf_lists,
    ranks_file,
    save_tokenizer,
    tiny_tokenizer,
    tokenizer_json,
    vocabulary,
)

TEXTS = ["", "the user called", "  12345 \r\n\n x", "Malmö 東京 🙂 \x00\x1b", "don't" * 9]


def read(tmp_path: Path, content: str | bytes, name: str = "tokenizer.json") -> Tokenizer:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Tokenizer.from_file(file)


@settings(deadline=None)
@given(st.text())
def test_what_was_encoded_decodes_to_itself(text: str) -> None:
    tokenizer = tiny_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def in_pieces(name: str) -> st.SearchStrategy[str]:
    return st.builds(lambda a, b: a + name + b, st.text(max_size=5), st.text(max_size=5))


@settings(deadline=None)
@given(st.sampled_from(list(SPECIALS)).flatmap(in_pieces))
def test_no_text_yields_a_special_id(text: str) -> None:
    ids = tiny_tokenizer().encode(text)
    assert not set(ids) & set(SPECIALS.values())
    assert tiny_tokenizer().decode(ids) == text


def test_a_special_name_listed_in_the_vocabulary_is_out_of_reach_too() -> None:
    content = tokenizer_json()
    content["model"]["vocab"] |= {"SECRET": 500}
    content["added_tokens"].append({**content["added_tokens"][0], "id": 500, "content": "SECRET"})
    tokenizer = Tokenizer.from_json(json.dumps(content).encode())
    assert tokenizer.special("SECRET") == 500
    assert 500 not in tokenizer.encode("SECRET")


def test_added_tokens_stay_out_of_reach_even_when_they_claim_not_to_be_special() -> None:
    content = tokenizer_json()
    for token in content["added_tokens"]:
        token["special"] = False
    tokenizer = Tokenizer.from_json(json.dumps(content).encode())
    assert SPECIALS["<|eot_id|>"] not in tokenizer.encode("a<|eot_id|>b")


def test_special_ids_are_had_by_name() -> None:
    tokenizer = tiny_tokenizer()
    assert {name: tokenizer.special(name) for name in SPECIALS} == SPECIALS
    assert tokenizer.stop_ids == (1, 4, 5)
    assert tokenizer.vocab_size == 401
    assert tokenizer.token_text(SPECIALS["<|eot_id|>"]) == "<|eot_id|>"


def test_a_missing_special_token_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"no token <\|nope\|>"):
        tiny_tokenizer().special("<|nope|>")


def test_a_template_in_the_file_adds_nothing_of_its_own() -> None:
    assert tiny_tokenizer().encode("") == []
    assert tiny_tokenizer().encode("a") == [FIRST_BYTE + vocabulary().index(b"a")]


def test_a_whole_piece_that_is_a_token_is_taken_before_any_merge() -> None:
    # b"call" is a token, and by merges alone "ca" + "ll" would come about only by luck.
    assert tiny_tokenizer().encode("call") == [FIRST_BYTE + vocabulary().index(b"call")]


@pytest.mark.parametrize("text", TEXTS)
def test_all_three_formats_cut_text_alike(tmp_path: Path, text: str) -> None:
    by_json = tiny_tokenizer()
    by_ranks = read(tmp_path, ranks_file(), "tokenizer.model")
    by_gguf = Tokenizer.from_gguf_metadata(*gguf_lists())
    pieces = [by_json.token_bytes(i) for i in by_json.encode(text)]
    assert [by_ranks.token_bytes(i) for i in by_ranks.encode(text)] == pieces
    assert [by_gguf.token_bytes(i) for i in by_gguf.encode(text)] == pieces


def test_special_tokens_follow_the_ranks_of_metas_file_in_llama_3s_order(tmp_path: Path) -> None:
    tokenizer = read(tmp_path, ranks_file(), "tokenizer.model")
    first = len(vocabulary())
    assert tokenizer.special("<|begin_of_text|>") == first
    assert tokenizer.special("<|eot_id|>") == first + 9
    assert tokenizer.special("<|python_tag|>") == first + 10
    assert tokenizer.special("<|image|>") == first + 256


def test_a_folder_is_searched_for_either_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no tokenizer: expected"):
        Tokenizer.from_directory(tmp_path)
    (tmp_path / "original").mkdir()
    (tmp_path / "original" / "tokenizer.model").write_text(ranks_file())
    assert Tokenizer.from_directory(tmp_path).special("<|begin_of_text|>") == len(vocabulary())
    save_tokenizer(tmp_path)
    assert Tokenizer.from_directory(tmp_path).special("<|begin_of_text|>") == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "not a tokenizer.json, or a truncated one"),
        (json.dumps(tokenizer_json())[:-500], "truncated"),
        (json.dumps({**tokenizer_json(), "model": {"type": "Unigram", "vocab": []}}), "Unigram"),
        (json.dumps({**tokenizer_json(), "pre_tokenizer": None}), "another kind"),
        (json.dumps({**tokenizer_json(), "normalizer": {"type": "Fancy"}}), "refuses it"),
        ('{"a":' * 100_000, "not a tokenizer.json"),
        *(
            (json.dumps(tokenizer_json() | {"model": tokenizer_json()["model"] | change}), words)
            for change, words in (
                ({"vocab": None}, "not a tokenizer.json"),
                ({"vocab": 5}, "not a tokenizer.json"),
                ({"vocab": ["a"]}, "not a tokenizer.json"),
                ({"vocab": {}, "merges": []}, "without a vocabulary"),
                ({"vocab": [], "merges": []}, "without a vocabulary"),
            )
        ),
        (
            json.dumps(tokenizer_json() | {"added_tokens": [{"content": "x", "id": math.inf}]}),
            "not a tokenizer.json",
        ),
        (b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00", "not `base64 rank`"),
        (ranks_file()[:-30] + "!!!", "not `base64 rank`"),
        (ranks_file().replace(" 17\n", " 4000\n"), "ranks are not 0, 1, 2"),
        ("", "0 tokens"),
        ("YQ== 0\n", "1 tokens"),
    ],
)
def test_a_damaged_file_gets_one_clear_line(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message) as error:
        read(tmp_path, content)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent.+cannot be read"):
        Tokenizer.from_file(tmp_path / "absent.json")


def test_gguf_lists_that_do_not_fit_together_are_refused() -> None:
    tokens, merges, kinds = gguf_lists()
    with pytest.raises(CheckpointError, match="as many of each"):
        Tokenizer.from_gguf_metadata(tokens, merges, kinds[1:])
    with pytest.raises(CheckpointError, match="not pairs"):
        Tokenizer.from_gguf_metadata(tokens, ["abc"], kinds)
    with pytest.raises(CheckpointError, match="refuses the vocabulary"):
        Tokenizer.from_gguf_metadata(tokens, ["ab absent"], kinds)


def test_an_id_that_stands_for_nothing_has_no_bytes() -> None:
    assert tiny_tokenizer().token_bytes(399) == b""
    assert tiny_tokenizer().token_bytes(10**6) == b""


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    tokenizer = tiny_tokenizer()
    assert tokenizer.decode(tokenizer.encode("a\ud800b\udfff")) == "a\ufffdb\ufffd"
    assert tokenizer.decode(tokenizer.encode("\ud83d\ude42")) == "🙂"


@pytest.mark.parametrize("unit", ["a", " ", "1", "\n ", "é"])
def test_a_long_run_of_one_kind_takes_no_quadratic_time(unit: str) -> None:
    text = unit * 100_000
    start = time.perf_counter()
    tiny_tokenizer().encode(text)
    assert time.perf_counter() - start < 10  # about 0.1 s; in quadratic time it would be minutes


def test_long_runs_are_cut_where_metas_code_cuts_them() -> None:
    tokenizer = tiny_tokenizer()
    run = "\x01" * LONGEST_RUN
    assert tokenizer.encode("the " + run + "call") == [
        *tokenizer.encode("the " + run),
        *tokenizer.encode("call"),
    ]


def test_threads_may_share_one_tokenizer() -> None:
    tokenizer = tiny_tokenizer()
    texts = [f"the user {i} " * 50 for i in range(64)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(tokenizer.encode, texts)) == [tokenizer.encode(t) for t in texts]


@settings(deadline=None)
@given(st.binary(), st.lists(st.integers(1, 4)))
def test_streamed_bytes_become_the_same_text_however_they_are_cut(
    data: bytes, cuts: list[int]
) -> None:
    decoder = StreamDecoder()
    text, rest = "", data
    for cut in [*cuts, len(data)]:
        text += decoder.feed(rest[:cut])
        rest = rest[cut:]
    text += decoder.finish()
    assert text == data.decode("utf-8", "replace")


def test_half_a_character_waits_for_its_other_half() -> None:
    decoder = StreamDecoder()
    first, *others = "🙂".encode()
    assert decoder.feed(bytes([first])) == ""
    assert decoder.feed(bytes(others)) == "🙂"
    assert decoder.feed(bytes([first])) == ""
    assert decoder.finish() == "\ufffd"
    assert decoder.feed(b"a") == "a"
