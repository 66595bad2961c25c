"""What `puna models` counts and finds."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from puna.cli.main import run_command_line
from puna.cli.models import CONTEXT, catalog_rows, prepared_rows
from puna.llama.catalog import find, footprint
from puna.llama.packing import packed_bytes
from puna.llama.prepare import prepare
from puna.llama.weights import open_checkpoint
from puna.opening import locate, model_name
from puna.settings import Settings
from tests.checkpoints import TINY_TEXT, random_weights, write_hf

SMALL = replace(TINY_TEXT, num_hidden_layers=1)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    write_hf(tmp_path / "hf", SMALL, random_weights(SMALL))
    prepare(open_checkpoint(tmp_path / "hf"), tmp_path / "small-int4.puna", "int4")
    return tmp_path / "small-int4.puna"


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_memory_is_counted_in_the_bits_asked_for(tmp_path: Path, bits: str) -> None:
    settings = Settings(hub_cache=tmp_path)
    rows = {row.name: row for row in catalog_rows(settings, 10**10, everything=True, bits=bits)}  # type: ignore[arg-type]
    for name in ("Llama-3.2-1B-Instruct", "Llama-3.2-11B-Vision-Instruct"):
        config = find(name).config  # type: ignore[union-attr]
        assert config is not None
        needs = footprint(config)
        beside = CONTEXT * needs.token + needs.image
        assert rows[name].memory == packed_bytes(config, bits) + beside  # type: ignore[arg-type]
        assert rows[name].fits == (rows[name].memory <= 10**10)


def test_prepared_files_are_listed_with_what_they_take(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared.with_name("broken.puna").write_bytes(prepared.read_bytes()[:50])
    monkeypatch.chdir(prepared.parent / "hf")
    (row,) = prepared_rows(Settings(models_dir=prepared.parent), 10**9)
    assert row.name == "small-int4"
    assert row.on_disk == str(prepared)
    beside = SMALL.kv_elements_per_token * 2 * min(CONTEXT, SMALL.max_position_embeddings)
    assert row.memory == prepared.stat().st_size + beside
    monkeypatch.chdir(prepared.parent)
    (row,) = prepared_rows(Settings(), 10**9)
    assert row.on_disk == prepared.name


def test_a_prepared_file_is_found_by_its_name_in_models_dir(prepared: Path) -> None:
    settings = Settings(models_dir=prepared.parent)
    assert locate("small-int4", settings) == prepared
    assert model_name(str(prepared)) == "small-int4"


def test_listing_prepared_files_imports_no_torch(prepared: Path) -> None:
    program = (
        "import sys\nfrom puna.cli.main import run_command_line\nrun_command_line(['models'])\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=prepared.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "small-int4" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_bits_that_do_not_exist_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["models", "--quantize", "int3"]) == 2
    assert "expected int8 or int4" in capsys.readouterr().err
