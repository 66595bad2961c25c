"""`puna quantize` as a command: what it writes where, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from puna.cli.main import run_command_line
from puna.llama.weights import open_checkpoint
from tests.checkpoints import TINY_WIDE, random_weights, write_gguf, write_hf

SMALL = replace(TINY_WIDE, num_hidden_layers=1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_hf(tmp_path / "tiny", SMALL, random_weights(SMALL))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "file", "layout"),
    [
        ((), "tiny-int4.puna", "Puna int4"),
        (("--format", "int8"), "tiny-int8.puna", "Puna int8"),
        (("--format", "bf16", "--to", "a.b"), "a.b", "Puna bf16"),
    ],
)
def test_the_file_is_named_or_takes_the_models_name(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    file: str,
    layout: str,
) -> None:
    assert run_command_line(["quantize", "./tiny", *arguments]) == 0
    told = capsys.readouterr()
    assert told.out == f"{file}\n"
    assert f"puna serve {file}" in told.err
    assert open_checkpoint(folder / file).layout == layout


@pytest.mark.parametrize("quant", ["Q4_0", "Q8_0"])
def test_a_quantised_gguf_keeps_its_own_format(folder: Path, quant: Any) -> None:
    write_gguf(folder / "a.gguf", SMALL, random_weights(SMALL), quant=quant)
    assert run_command_line(["quantize", "a.gguf"]) == 0
    form = {"Q4_0": "int4", "Q8_0": "int8"}[quant]
    assert open_checkpoint(folder / f"a-{quant}.puna").layout == f"Puna {form}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("./tiny", "--format", "int3"), "expected int4, int8, bf16"),
        (("./tiny", "--to", "tiny"), "is a folder"),
        (("./tiny", "--to", "there.puna"), "--force"),
        (("./none",), "no such file"),
        (("there.puna",), "no model file"),
    ],
)
def test_what_cannot_be_is_one_line(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    (folder / "there.puna").write_bytes(b"something else")
    assert run_command_line(["quantize", *arguments]) != 0
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert (folder / "there.puna").read_bytes() == b"something else"


def test_force_overwrites(folder: Path) -> None:
    (folder / "there.puna").write_bytes(b"something else")
    assert run_command_line(["quantize", "./tiny", "--to", "there.puna", "--force"]) == 0
    assert open_checkpoint(folder / "there.puna").layout == "Puna int4"
