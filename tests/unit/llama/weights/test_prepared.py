"""Prepared files: the very weights, used where they are mapped, whole or not at all."""

from __future__ import annotations

import json
import shutil
import struct
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

import puna.llama.prepare
from puna.errors import CheckpointError, StartupError
from puna.kernels import Format, Packed, unpack
from puna.llama.config import LlamaConfig
from puna.llama.load import load_llama
from puna.llama.packing import packed_bytes
from puna.llama.prepare import prepare
from puna.llama.prepared_header import MARK, PAGE
from puna.llama.shapes import tensor_shapes
from puna.llama.weights import Checkpoint, GenerationDefaults, open_checkpoint
from tests.checkpoints import (
    TINY_META_VISION,
    TINY_TEXT,
    TINY_TIED,
    TINY_VISION,
    TINY_WIDE,
    random_weights,
    write_gguf,
    write_hf,
    write_meta,
)
from tests.unit.llama.weights.damage import cuts, flips, opens_or_refuses, refusal

SMALL = replace(TINY_TEXT, num_hidden_layers=1)
FAMILIES = {"text": TINY_TEXT, "tied": TINY_TIED, "vision": TINY_VISION}
FORMATS: tuple[Format, ...] = get_args(Format)
TEXTS = ("What is the weather?", "<|eot_id|> naïve 東京 \udc80", " \n\n\t  1234567", "")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    write_hf(tmp_path / "hf", SMALL, random_weights(SMALL))
    prepare(open_checkpoint(tmp_path / "hf"), tmp_path / "small.puna", "int4")
    return tmp_path / "small.puna"


def weights_of(checkpoint: Checkpoint, packing: Any) -> dict[str, torch.Tensor]:
    model = load_llama(checkpoint, packing=packing)
    modules = {f"{name}.weight": getattr(m, "weight", None) for name, m in model.named_modules()}
    packed = {name: weight.data for name, weight in modules.items() if isinstance(weight, Packed)}
    assert packed
    return model.state_dict() | packed


def sources(folder: Path, config: LlamaConfig) -> dict[str, Path]:
    weights = random_weights(config)
    made = {"hf": write_hf(folder / "hf", config, weights)}
    if not config.vision or config == TINY_META_VISION:
        made["meta"] = write_meta(folder / "meta", config, weights, shards=2)
    if not config.vision:
        made["gguf"] = write_gguf(folder / "tiny.gguf", config, weights)
    return made


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("config", [*FAMILIES.values(), TINY_META_VISION])
def test_a_prepared_model_is_the_one_that_would_have_been_packed_at_load(
    tmp_path: Path, config: LlamaConfig, form: Format
) -> None:
    for layout, path in sources(tmp_path, config).items():
        original = open_checkpoint(path)
        size = prepare(original, tmp_path / f"{layout}.puna", form)
        assert size == (tmp_path / f"{layout}.puna").stat().st_size
        prepared = open_checkpoint(tmp_path / f"{layout}.puna")
        assert prepared.config == original.config
        assert prepared.generation == original.generation
        theirs, ours = weights_of(original, form), weights_of(prepared, "stored")
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
        assert sum(w.nbytes for w in ours.values()) == packed_bytes(
            prepared.config, "stored", prepared.stored_format
        )
        before, after = original.tokenizer(), prepared.tokenizer()
        assert after.vocab_size == before.vocab_size
        assert after.stop_ids == before.stop_ids
        assert after.special_names == before.special_names
        for text in TEXTS:
            assert after.encode(text) == before.encode(text)
        for token in range(before.vocab_size):
            assert after.token_bytes(token) == before.token_bytes(token)


@pytest.mark.parametrize("quant", ["Q8_0", "Q6_K", "Q4_K", "Q4_0"])
def test_a_quantised_gguf_is_taken_over_bit_for_bit(tmp_path: Path, quant: Any) -> None:
    path = write_gguf(tmp_path / "a.gguf", TINY_WIDE, random_weights(TINY_WIDE), quant=quant)
    prepare(open_checkpoint(path), tmp_path / "a.puna", "stored")
    gguf, prepared = open_checkpoint(path), open_checkpoint(tmp_path / "a.puna")
    for name in tensor_shapes(TINY_WIDE):
        expected = gguf.read(name, torch.float32)
        assert torch.equal(prepared.read(name, torch.float32), expected), name
        assert torch.equal(prepared.read(name, torch.bfloat16), expected.bfloat16()), name


def test_packed_weights_are_used_where_the_file_is_mapped(small: Path) -> None:
    """A file changed in place shows in the model; and kernels may read whole cache lines."""
    weight = load_llama(open_checkpoint(small), packing="stored").model.layers[0].mlp.up_proj.weight
    assert weight.data.data_ptr() % 64 == 0
    needle = bytes(weight.data.flatten().tolist())
    data = small.read_bytes()
    at = data.index(needle)
    assert data.count(needle) == 1
    with small.open("r+b") as file:
        file.seek(at)
        file.write(b"\0" * len(needle))
    assert unpack(weight).count_nonzero() == 0


def test_the_data_begin_at_a_pages_border(small: Path) -> None:
    (length,) = struct.unpack("<Q", small.read_bytes()[:8])
    assert (8 + length) % PAGE == 0


def test_generation_defaults_come_along(tmp_path: Path) -> None:
    write_hf(tmp_path / "hf", SMALL, random_weights(SMALL))
    settings = {"temperature": 0.3, "top_p": 1, "top_k": 7, "num_beams": 4, "eos_token_id": [5]}
    (tmp_path / "hf/generation_config.json").write_text(json.dumps(settings))
    prepare(open_checkpoint(tmp_path / "hf"), tmp_path / "a.puna", "int8")
    prepared = open_checkpoint(tmp_path / "a.puna")
    assert prepared.generation == GenerationDefaults(0.3, 1.0, 7, ("num_beams=4",))
    assert prepared.config.eos_token_ids == (5,)


def test_frequencies_of_another_rule_come_along(tmp_path: Path) -> None:
    write_hf(tmp_path / "hf", SMALL, random_weights(SMALL))
    checkpoint = open_checkpoint(tmp_path / "hf")
    checkpoint.config = replace(
        SMALL, rope_scaling=None, rope_divisors=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.5)
    )
    prepare(checkpoint, tmp_path / "a.puna", "int8")
    assert open_checkpoint(tmp_path / "a.puna").config == checkpoint.config


# ------------------------------------------------------------------------------------- damage


def test_every_truncated_file_is_refused_in_one_line(small: Path) -> None:
    for cut in cuts(small.read_bytes()):
        small.write_bytes(cut)
        assert str(small.parent) in refusal(small)


def test_a_file_with_wrong_bytes_in_its_header_loads_or_is_refused_in_one_line(
    small: Path,
) -> None:
    data = small.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    used = len(data[: 8 + length].rstrip())
    refused = 0
    for spoiled in flips(data, 300, seed=1, head=used):
        small.write_bytes(spoiled)
        refused += not opens_or_refuses(small)
    assert refused > 150


def test_a_damaged_tokenizer_is_refused_in_one_line(small: Path) -> None:
    data = small.read_bytes()
    at = data.index(b'{"specials"')
    refused = 0
    for spoiled in flips(data[at:], 100, seed=2, head=len(data) - at):
        small.write_bytes(data[:at] + spoiled)
        refused += not opens_or_refuses(small)
    assert refused > 10


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The file with another header before the same data."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def in_config(**values: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        config = json.loads(header["__metadata__"]["config"]) | values
        header["__metadata__"]["config"] = json.dumps(config)

    return change


def renamed(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        (name,) = (name for name in header if name.startswith(old))
        header[new] = header.pop(name)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda header: header["__metadata__"].update(puna="2"), "version '2' of the file"),
        (lambda header: header["__metadata__"].update(config="[]"), "object of names"),
        (lambda header: header["__metadata__"].pop("config"), "config"),
        (in_config(hidden_size="big"), "hidden_size is 'big'"),
        (in_config(hidden_size=-64), "hidden_size is '-64'"),
        (in_config(hidden_size=128), "expected|is U8"),
        (in_config(rope_scaling={"factor": 8.0, "more": 1}), "more"),
        (in_config(eos_token_ids=[1.5]), "eos_token_ids"),
        (in_config(num_hidden_layers=2), "missing"),
        (in_config(new_knob=1), "new_knob"),
        (renamed("tokenizer", "token"), "of no use in a Llama"),
        (renamed("model.norm.weight", "norm.weight"), "missing"),
        (renamed("lm_head.", "lm_head.bf16"), "lm_head.bf16 is U8"),
        (renamed("lm_head.", "lm_head.int3"), "missing"),
    ],
)
def test_a_header_that_says_something_else_is_refused_with_what_is_wrong(
    small: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    changed(small, change)
    message = refusal(small)
    assert any(part in message for part in said.split("|")), message
    assert "puna quantize" in message or "Download" in message


def test_a_file_without_a_tokenizer_is_refused_when_it_is_wanted(small: Path) -> None:
    data = small.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    size = json.loads(data[8 : 8 + length])["tokenizer"]["shape"][0]
    small.write_bytes(data[:-size])
    changed(small, lambda header: header.pop("tokenizer"))
    with pytest.raises(CheckpointError, match="holds no tokenizer"):
        open_checkpoint(small).tokenizer()


def test_special_tokens_inside_the_encoder_are_refused(small: Path) -> None:
    """Text of a user must never become one."""
    tokenizer = open_checkpoint(small).tokenizer()
    tokenizer._encoder.add_special_tokens(["<|eot_id|>"])  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError, match="special tokens are in the encoder"):
        type(tokenizer).restore(tokenizer.dump())


def test_a_prepared_file_beside_another_checkpoint_must_be_named(small: Path) -> None:
    assert open_checkpoint(small.parent).path == small
    shutil.copy(small, small.with_name("other.puna"))
    assert "other.puna, small.puna" in refusal(small.parent)
    shutil.copy(small, small.parent / "hf")
    assert "small.puna" in refusal(small.parent / "hf")
    assert open_checkpoint(small.parent / "hf/small.puna").layout == "Puna int4"
    assert open_checkpoint(small.parent / "hf/model.safetensors").layout.startswith("Hugging")


def test_only_the_first_bytes_tell_a_prepared_file_not_its_name(small: Path) -> None:
    assert small.read_bytes()[8:].startswith(MARK)
    named = small.rename(small.with_name("model.safetensors"))
    assert open_checkpoint(named).layout == "Puna int4"


# ------------------------------------------------------------------------------------ writing


def test_a_file_that_is_there_is_kept_unless_forced(small: Path) -> None:
    checkpoint = open_checkpoint(small.parent / "hf")
    before = small.read_bytes()
    with pytest.raises(StartupError, match="--force"):
        prepare(checkpoint, small, "int8")
    assert small.read_bytes() == before
    prepare(checkpoint, small, "int8", force=True)
    assert open_checkpoint(small).layout == "Puna int8"


def test_a_prepared_file_may_be_prepared_anew_over_itself(small: Path) -> None:
    prepare(open_checkpoint(small), small, "int8", force=True)
    assert open_checkpoint(small).layout == "Puna int8"


@pytest.mark.parametrize("force", [False, True])
def test_a_writing_that_fails_leaves_what_was_there_and_nothing_else(
    small: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    checkpoint = open_checkpoint(small.parent / "hf")
    read = checkpoint.read
    target = small if force else small.with_name("new.puna")
    before = {path.name: path.read_bytes() for path in small.parent.iterdir() if path.is_file()}
    failures: list[BaseException] = [OSError(28, "No space left"), KeyboardInterrupt()]
    for failure in failures:

        def fail(name: str, dtype: torch.dtype, failure: BaseException = failure) -> torch.Tensor:
            if name == "model.norm.weight":
                raise failure
            return read(name, dtype)

        monkeypatch.setattr(checkpoint, "read", fail)
        with pytest.raises(type(failure)):
            prepare(checkpoint, target, "int4", force=force)
        after = {path.name: path.read_bytes() for path in small.parent.iterdir() if path.is_file()}
        assert after == before


def test_a_disk_that_is_too_full_is_told_before_anything_is_written(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    full = usage(10**9, 10**9 - small.stat().st_size + 1, small.stat().st_size - 1)
    monkeypatch.setattr(puna.llama.prepare.shutil, "disk_usage", lambda _: full)
    with pytest.raises(StartupError, match="make room"):
        prepare(open_checkpoint(small.parent / "hf"), small.with_name("new.puna"), "int4")
    assert not small.with_name("new.puna").exists()


def test_a_target_that_cannot_be_is_refused(small: Path) -> None:
    checkpoint = open_checkpoint(small)
    with pytest.raises(StartupError, match="is a folder"):
        prepare(checkpoint, small.parent, "int4", force=True)
    with pytest.raises(StartupError, match="no such folder"):
        prepare(checkpoint, small.parent / "none/a.puna", "int4")


def test_progress_goes_up_to_the_whole_file(small: Path) -> None:
    told: list[tuple[int, int]] = []
    size = prepare(
        open_checkpoint(small),
        small.with_name("new.puna"),
        "int4",
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == sorted(told)
    assert told[-1] == (size, size)
    assert len(told) >= len(tensor_shapes(SMALL))


def test_one_tensor_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor is packed only when the one before it is gone."""
    import weakref

    write_hf(tmp_path / "hf", TINY_TEXT, random_weights(TINY_TEXT))
    alive: list[weakref.ref[torch.Tensor]] = []
    pack = puna.llama.prepare.packed

    def watched(*args: Any) -> Packed:
        assert not any(reference() is not None for reference in alive[:-1])
        weight = pack(*args)
        alive.append(weakref.ref(weight.data))
        return weight

    monkeypatch.setattr(puna.llama.prepare, "packed", watched)
    prepare(open_checkpoint(tmp_path / "hf"), tmp_path / "a.puna", "int4")
    assert len(alive) == 7 * TINY_TEXT.num_hidden_layers + 2
