"""Text to token ids and back, over every file format in which Llama 3 tokenizers come.

It knows no roles and no prompts. Whatever text `encode` is given, special ids never come out: the
added tokens are not in the encoder at all, and are had by name alone, through `special`.

Formats: `tokenizer.json` (Hugging Face), `tokenizer.model` (Meta: lines of `base64 rank`) and the
lists in a GGUF header. All become one byte-level BPE of the `tokenizers` library. Nothing here
depends on the size of the vocabulary.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import tokenizers
from tokenizers import models, pre_tokenizers

from puna.errors import CheckpointError

# Llama 3's rule for cutting text into pieces before merging (published in its tokenizer.json).
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Meta's rule as well: without it, millions of blanks make the regex engine give up.
LONGEST_RUN = 25_000
STOPS = ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")
GGUF_NORMAL = 1


def _byte_alphabet() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte, in which byte-level vocabularies are written."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + i) for i, byte in enumerate(others)
    }


BYTE_TO_CHAR = _byte_alphabet()
CHAR_TO_BYTE = {char: byte for byte, char in BYTE_TO_CHAR.items()}


class _Encoding(Protocol):
    ids: list[int]


class _Encoder(Protocol):
    """What is used of `tokenizers.Tokenizer`, whose stubs leave the types out."""

    def encode(self, sequence: str, *, add_special_tokens: bool) -> _Encoding: ...
    def get_added_tokens_decoder(self) -> Mapping[int, object]: ...
    def to_str(self) -> str: ...
    def id_to_token(self, token_id: int, /) -> str | None: ...


class Tokenizer:
    """A byte-level BPE and its special tokens. Immutable; any number of threads may use it."""

    def __init__(self, encoder: _Encoder, specials: Mapping[str, int], last_id: int) -> None:
        self._encoder = encoder
        self._last_id = last_id
        self._specials = dict(specials)
        self._special_names = {token_id: name for name, token_id in specials.items()}
        self.vocab_size = 1 + max((last_id, *specials.values()))
        """One more than the largest id (the image token's included, where there is one)."""
        self.stop_ids = tuple(specials[name] for name in STOPS if name in specials)
        """The ids that end an answer: end of text, of message, of turn, as far as they exist."""

    @classmethod
    def from_directory(cls, path: str | Path) -> Tokenizer:
        """The tokenizer of a checkpoint folder, Hugging Face's or Meta's."""
        folder = Path(path)
        for name in ("tokenizer.json", "tokenizer.model", "original/tokenizer.model"):
            if (folder / name).is_file():
                return cls.from_file(folder / name)
        raise CheckpointError(
            f"{folder} holds no tokenizer: expected tokenizer.json or tokenizer.model there. "
            "Download the checkpoint again, whole."
        )

    @classmethod
    def from_file(cls, path: str | Path) -> Tokenizer:
        """`tokenizer.json` or Meta's `tokenizer.model`, told apart by content."""
        file = Path(path)
        try:
            data = file.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{file} cannot be read: {error.strerror or error}") from error
        try:
            if data.lstrip()[:1] == b"{":
                return cls.from_json(data)
            return cls._from_ranks(data)
        except CheckpointError as error:
            raise CheckpointError(f"{file}: {error}") from error

    @classmethod
    def from_gguf_metadata(
        cls, tokens: Sequence[str], merges: Sequence[str], token_types: Sequence[int]
    ) -> Tokenizer:
        """From a GGUF header's `tokenizer.ggml.tokens`, `.merges` and `.token_type`."""
        if not len(tokens) == len(token_types) > 0:
            raise CheckpointError(
                f"the GGUF header lists {len(tokens)} tokens and {len(token_types)} token types: "
                "expected as many of each, and at least one"
            )
        kinds = list(zip(tokens, token_types, strict=True))
        normal = {token: i for i, (token, kind) in enumerate(kinds) if kind == GGUF_NORMAL}
        specials = {token: i for i, (token, kind) in enumerate(kinds) if kind != GGUF_NORMAL}
        pairs = [tuple(merge.split(" ")) for merge in merges]
        if not all(len(pair) == 2 for pair in pairs):
            raise CheckpointError("the GGUF header's merges are not pairs of tokens")
        encoder = _byte_level_bpe(normal, cast(list[tuple[str, str]], pairs))
        return cls(encoder, specials, len(tokens) - 1)

    @classmethod
    def from_json(cls, data: bytes) -> Tokenizer:
        """From the content of a `tokenizer.json`."""
        try:
            content: dict[str, Any] = json.loads(data)
            kind = content["model"]["type"]
            vocab: dict[str, int] = dict(content["model"]["vocab"])
            specials = {
                str(token["content"]): int(token["id"]) for token in content["added_tokens"]
            }
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"not a tokenizer.json, or a truncated one ({error}). Download it again."
            ) from error
        if kind != "BPE" or '"ByteLevel"' not in json.dumps(content.get("pre_tokenizer")):
            raise CheckpointError(
                f"holds a tokenizer of another kind ({kind}); Puna reads the byte-level BPE of "
                "Llama 3.1 and 3.2"
            )
        for name in specials:
            vocab.pop(name, None)
        if not vocab:
            raise CheckpointError("holds a tokenizer without a vocabulary. Download it again.")
        content["model"]["vocab"] = vocab
        content |= {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
        try:
            encoder = tokenizers.Tokenizer.from_str(json.dumps(content))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"the tokenizers library refuses it: {error}") from error
        return cls(cast(_Encoder, encoder), specials, max(vocab.values()))

    @classmethod
    def _from_ranks(cls, data: bytes) -> Tokenizer:
        ranks: dict[bytes, int] = {}
        try:
            for line in data.splitlines():
                token, rank = line.split()
                ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise CheckpointError(
                f"line {len(ranks) + 1} is not `base64 rank`: truncated, or the tokenizer of "
                "another model (Llama 3's is a text file). Download it again."
            ) from None
        if sorted(ranks.values()) != list(range(len(ranks))) or len(ranks) < 256:
            raise CheckpointError(
                f"{len(ranks)} tokens whose ranks are not 0, 1, 2 ...: truncated or damaged. "
                "Download it again."
            )
        names = {token: "".join(BYTE_TO_CHAR[byte] for byte in token) for token in ranks}
        # A token may come about by any pair of tokens that makes it, lowest ranks first.
        merges = sorted(
            (rank, ranks[token[:cut]], ranks[token[cut:]], names[token[:cut]], names[token[cut:]])
            for token, rank in ranks.items()
            for cut in range(1, len(token))
            if token[:cut] in ranks and token[cut:] in ranks
        )
        encoder = _byte_level_bpe(
            {names[token]: rank for token, rank in ranks.items()},
            [(left, right) for *_, left, right in merges],
        )
        specials = {name: len(ranks) + i for i, name in enumerate(_llama3_specials())}
        return cls(encoder, specials, len(ranks) - 1)

    def dump(self) -> bytes:
        """All of it, for `restore`: a third of the time that a `tokenizer.json` takes."""
        head = {"specials": self._specials, "last_id": self._last_id}
        return json.dumps(head).encode() + b"\n" + self._encoder.to_str().encode()

    @classmethod
    def restore(cls, data: bytes) -> Tokenizer:
        """From what `dump` gave. Raises CheckpointError when it is damaged."""
        head, _, encoder = data.partition(b"\n")
        try:
            values: dict[str, Any] = json.loads(head)
            specials = {str(name): int(token_id) for name, token_id in values["specials"].items()}
            last_id = int(values["last_id"])
            restored = cast(_Encoder, tokenizers.Tokenizer.from_str(encoder.decode()))
            if restored.get_added_tokens_decoder():
                raise ValueError("special tokens are in the encoder")
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(
                f"the tokenizer is damaged ({error}): run puna quantize again"
            ) from error
        return cls(restored, specials, last_id)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, none of them special: `<|eot_id|>` typed by a user is seven pieces.

        Halves of surrogate pairs, which no UTF-8 can hold, become U+FFFD.
        """
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        pieces = [whole] if len(whole) <= LONGEST_RUN else _cut_long_runs(whole)
        return [
            token_id
            for piece in pieces
            for token_id in self._encoder.encode(piece, add_special_tokens=False).ids
        ]

    def special(self, name: str) -> int:
        """The id of a special token, such as `<|eot_id|>`.

        Raises CheckpointError when this tokenizer has none of that name.
        """
        try:
            return self._specials[name]
        except KeyError:
            raise CheckpointError(
                f"the tokenizer has no token {name}: is this a Llama 3.1 or 3.2 checkpoint?"
            ) from None

    @property
    def special_names(self) -> tuple[str, ...]:
        """All special tokens, those reserved included."""
        return tuple(self._specials)

    def is_special(self, token_id: int) -> bool:
        return token_id in self._special_names

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes behind an id, maybe half a character; a special token's are its name.

        An id that stands for nothing (padding of the embedding) has none.
        """
        if token_id in self._special_names:
            return self._special_names[token_id].encode()
        token = self._encoder.id_to_token(token_id) or ""
        try:
            return bytes(CHAR_TO_BYTE[char] for char in token)
        except KeyError:
            return token.encode()

    def token_text(self, token_id: int) -> str:
        """`token_bytes` as text; half characters become U+FFFD."""
        return self.token_bytes(token_id).decode("utf-8", "replace")

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, special tokens by their names."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")


class StreamDecoder:
    """Bytes in, whole characters out: the pieces joined are what decoding all at once gives."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> str:
        """The characters that `data` completes; half a character waits for its other half."""
        return self._decoder.decode(data)

    def finish(self) -> str:
        """What is left: "" or, for a character that never came whole, U+FFFD."""
        return self._decoder.decode(b"", final=True)


def _cut_long_runs(text: str) -> Iterator[str]:
    """The text in pieces, cut where a run of (non-)blanks has lasted LONGEST_RUN characters."""
    start = 0
    for run in re.finditer(r"\s+|\S+", text):
        for cut in range(run.start() + LONGEST_RUN, run.end(), LONGEST_RUN):
            yield text[start:cut]
            start = cut
    yield text[start:]


def _byte_level_bpe(vocab: dict[str, int], merges: list[tuple[str, str]]) -> _Encoder:
    try:
        # ignore_merges: a piece that is itself a token is taken whole, as tiktoken does.
        encoder = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"the tokenizers library refuses the vocabulary: {error}") from error
    split = pre_tokenizers.Split(tokenizers.Regex(SPLIT), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    encoder.pre_tokenizer = pre_tokenizers.Sequence([split, letters])
    return cast(_Encoder, encoder)


def _llama3_specials() -> list[str]:
    """The names that follow the ranks of `tokenizer.model`, in order of id.

    Meta's own files number the image token 11th and move it behind the 256 before the model sees
    it; here it has that place from the start.
    """
    known = {
        0: "<|begin_of_text|>",
        1: "<|end_of_text|>",
        4: "<|finetune_right_pad_id|>",
        6: "<|start_header_id|>",
        7: "<|end_header_id|>",
        8: "<|eom_id|>",
        9: "<|eot_id|>",
        10: "<|python_tag|>",
    }
    reserved = (f"<|reserved_special_token_{i}|>" for i in range(256 - len(known)))
    return [known.get(i) or next(reserved) for i in range(256)] + ["<|image|>"]
