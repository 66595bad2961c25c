"""A tokenizer of 300 tokens in every file format: bytes, a few merges, Llama 3's special tokens.

The special ids are nowhere near 128000, and lie before and after the others.
"""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

from puna.llama.tokenizer import BYTE_TO_CHAR, SPLIT, Tokenizer

SPECIALS = {
    "<|begin_of_text|>": 0,
    "<|end_of_text|>": 1,
    "<|start_header_id|>": 2,
    "<|end_header_id|>": 3,
    "<|eom_id|>": 4,
    "<|eot_id|>": 5,
    "<|python_tag|>": 6,
    "<|finetune_right_pad_id|>": 7,
    "<|image|>": 400,
}
WORDS = [b"th", b"the", b" t", b" the", b"\n\n", b"ca", b"call", b"ll", b".c", b'("', b'")', b"us",
         b"er", b"user", b"sys", b"tem", b"  ", b"12", b"123"]  # fmt: skip
FIRST_BYTE = 8


def vocabulary() -> list[bytes]:
    """The ordinary tokens, in order of rank: first the single bytes, not in their own order."""
    return [bytes([(byte * 7) % 256]) for byte in range(256)] + WORDS


def written(token: bytes) -> str:
    return "".join(BYTE_TO_CHAR[byte] for byte in token)


def merges() -> list[tuple[str, str]]:
    """For each word, its best two parts among the words and bytes."""
    known = vocabulary()
    pairs: list[tuple[str, str]] = []
    for word in WORDS:
        cuts = [(word[:cut], word[cut:]) for cut in range(1, len(word))]
        pairs += [(written(a), written(b)) for a, b in cuts if a in known and b in known]
    return pairs


def tokenizer_json() -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number, "content": name, "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False, "special": True,
            }
            for name, number in SPECIALS.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated",
                 "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                 "use_regex": False},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [],
            "special_tokens": {
                "<|begin_of_text|>": {
                    "id": "<|begin_of_text|>", "ids": [0], "tokens": ["<|begin_of_text|>"],
                }
            },
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": True,
            "vocab": {
                **{written(token): FIRST_BYTE + i for i, token in enumerate(vocabulary())},
                # Some files list the special tokens here as well.
                **SPECIALS,
            },
            "merges": [list(pair) for pair in merges()],
        },
    }  # fmt: skip


def ranks_file() -> str:
    return "".join(
        f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(vocabulary())
    )


def gguf_lists() -> tuple[list[str], list[str], list[int]]:
    """`tokens`, `merges` and `token_type` of a GGUF header (its ids have no gaps)."""
    names = list(SPECIALS)
    tokens = [*names[:8], *(written(token) for token in vocabulary()), *names[8:]]
    kinds = [3] * 8 + [1] * len(vocabulary()) + [3] * (len(names) - 8)
    return tokens, [" ".join(pair) for pair in merges()], kinds


def save_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json()), encoding="utf-8")


@cache
def tiny_tokenizer() -> Tokenizer:
    return Tokenizer.from_json(json.dumps(tokenizer_json()).encode())
