"""What the hub's cache on this machine holds."""

import json
from pathlib import Path

from puna.hub import Hub

REPOSITORY = "meta-llama/Llama-3.2-3B-Instruct"


def snapshot(cache: Path, *files: str) -> Path:
    home = cache / "models--meta-llama--Llama-3.2-3B-Instruct"
    folder = home / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc\n")
    for file in files:
        (folder / file).write_text("{}")
    return folder


def test_an_empty_cache_has_nothing(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "not there")
    assert hub.find(REPOSITORY) is None
    assert not hub.begun(REPOSITORY)


def test_a_folder_without_weights_is_begun_and_not_found(tmp_path: Path) -> None:
    snapshot(tmp_path, "config.json")
    hub = Hub(tmp_path)
    assert hub.find(REPOSITORY) is None
    assert hub.begun(REPOSITORY)


def test_a_sharded_checkpoint_is_found_when_every_shard_is_there(tmp_path: Path) -> None:
    folder = snapshot(tmp_path, "config.json", "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    hub = Hub(tmp_path)
    assert hub.find(REPOSITORY) is None
    assert hub.begun(REPOSITORY)
    (folder / "model-2.safetensors").write_text("")
    assert hub.find(REPOSITORY) == folder
    assert not hub.begun(REPOSITORY)


def test_the_address_is_the_public_hub_unless_another_is_named(tmp_path: Path) -> None:
    assert Hub(tmp_path).address == "https://huggingface.co"
    assert Hub(tmp_path, endpoint="http://127.0.0.1:1/").address == "http://127.0.0.1:1"
