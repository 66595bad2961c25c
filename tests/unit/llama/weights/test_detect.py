"""Layouts are told by content; whatever is no checkpoint is named for what it is."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from puna.llama.weights import open_checkpoint
from tests.checkpoints import (
    TINY_TEXT,
    random_weights,
    write_gguf,
    write_hf,
    write_json,
    write_meta,
)
from tests.unit.llama.weights.damage import refusal

SMALL = replace(TINY_TEXT, num_hidden_layers=1)


def test_a_layout_is_told_by_content_whatever_the_files_are_called(tmp_path: Path) -> None:
    weights = random_weights(SMALL)
    write_hf(tmp_path / "hf", SMALL, weights)
    (tmp_path / "hf/model.safetensors").rename(tmp_path / "hf/weights.gguf")
    write_meta(tmp_path / "meta", SMALL, weights)
    (tmp_path / "meta/consolidated.00.pth").rename(tmp_path / "meta/weights.gguf")
    write_gguf(tmp_path / "gguf" / "consolidated.00.pth", SMALL, weights)
    layouts = {name: open_checkpoint(tmp_path / name).layout for name in ("hf", "meta", "gguf")}
    assert layouts["hf"].startswith("Hugging Face")
    assert layouts["meta"].startswith("Meta")
    assert layouts["gguf"].startswith("GGUF")


@pytest.mark.parametrize("pair", [("hf", "meta"), ("hf", "gguf"), ("meta", "gguf")])
def test_a_folder_with_two_checkpoints_is_refused_and_one_file_of_it_is_not(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    weights = random_weights(SMALL)
    named: list[Path] = []
    if "hf" in pair:
        write_hf(tmp_path, SMALL, weights)
        named.append(tmp_path / "model.safetensors")
    if "meta" in pair:
        write_meta(tmp_path, SMALL, weights)
        named.append(tmp_path / "consolidated.00.pth")
    if "gguf" in pair:
        named.append(write_gguf(tmp_path / "tiny.gguf", SMALL, weights))
    message = refusal(tmp_path)
    assert all(path.name in message for path in named)
    layouts = {open_checkpoint(path).layout for path in named}
    assert len(layouts) == 2


def test_several_gguf_files_are_refused_by_name_and_one_is_not(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", SMALL, random_weights(SMALL))
    write_gguf(tmp_path / "b.gguf", SMALL, random_weights(SMALL))
    assert "a.gguf, b.gguf" in refusal(tmp_path)
    assert open_checkpoint(tmp_path / "b.gguf").path.name == "b.gguf"


def test_metas_folder_inside_a_hub_folder_is_no_second_checkpoint(tmp_path: Path) -> None:
    write_hf(tmp_path, SMALL, random_weights(SMALL))
    write_meta(tmp_path / "original", SMALL, random_weights(SMALL))
    assert open_checkpoint(tmp_path).layout.startswith("Hugging Face")
    assert open_checkpoint(tmp_path / "original").layout.startswith("Meta")


def test_pytorch_model_bin_beside_safetensors_is_the_same_twice(tmp_path: Path) -> None:
    write_hf(tmp_path, SMALL, random_weights(SMALL))
    torch.save(random_weights(SMALL), tmp_path / "pytorch_model.bin")
    assert open_checkpoint(tmp_path).layout.startswith("Hugging Face")
    (tmp_path / "model.safetensors").unlink()
    assert "pytorch_model.bin is not read" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"tjgg\x03\0\0\0", "GGUF again"),
        (b"lmgg\0\0\0\0", "GGUF again"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (pickle.dumps({"a": 1}), "pickle"),
        (b'{"a": 1}', "name the folder"),
        (b"hello, world", "no model file"),
        (b"\0" * 100, "no model file"),
        (b"G", "no model file"),
    ],
)
@pytest.mark.parametrize("whole_folder", [False, True])
def test_what_is_no_checkpoint_is_named_for_what_it_is(
    tmp_path: Path, content: bytes, said: str, whole_folder: bool
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    message = refusal(tmp_path if whole_folder else path)
    assert said in message
    assert "safetensors" in message
    assert "GGUF" in message


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "holds no weights" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "nothing")


def test_a_zip_that_is_no_torch_file_is_refused(tmp_path: Path) -> None:
    write_meta(tmp_path, SMALL, random_weights(SMALL))
    with zipfile.ZipFile(tmp_path / "consolidated.00.pth", "w") as archive:
        archive.writestr("hello.txt", "world")
    assert "no torch checkpoint" in refusal(tmp_path)


def test_weights_alone_are_no_checkpoint(tmp_path: Path) -> None:
    write_hf(tmp_path / "hf", SMALL, random_weights(SMALL))
    (tmp_path / "hf/config.json").unlink()
    assert "config.json is missing" in refusal(tmp_path / "hf/model.safetensors")
    write_meta(tmp_path / "meta", SMALL, random_weights(SMALL))
    (tmp_path / "meta/params.json").unlink()
    assert "params.json" in refusal(tmp_path / "meta")
    assert "params.json" in refusal(tmp_path / "meta/consolidated.00.pth")


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    write_hf(tmp_path / "hf", SMALL, random_weights(SMALL))
    (tmp_path / "hf/model.safetensors").unlink()
    (tmp_path / "hf/model.safetensors").symlink_to(tmp_path / "gone")
    refusal(tmp_path / "hf")  # as in a hub cache whose blob is gone
    shutil.rmtree(tmp_path / "hf")


def test_a_config_folder_of_an_adapter_is_refused(tmp_path: Path) -> None:
    write_hf(tmp_path, SMALL, {"base_model.model.lora_A.weight": torch.zeros(1)})
    (tmp_path / "config.json").unlink()
    write_json(tmp_path / "adapter_config.json", {"peft_type": "LORA"})
    assert "config.json is missing" in refusal(tmp_path)
