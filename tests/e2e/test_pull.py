"""`puna pull` against a hub on loopback: whole, resumed, gated, refused, and never by surprise."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkpoints import TINY_TIED, random_weights, write_hf
from tests.e2e.fake_hub import FakeHub, etag, serving

PUNA = str(Path(sys.executable).with_name("puna"))
NAME = "Llama-3.2-1B-Instruct"
REPOSITORY = f"meta-llama/{NAME}"
BIG = "other.safetensors"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("checkpoint")
    write_hf(folder, TINY_TIED, random_weights(TINY_TIED, seed=1))
    written = {file.name: file.read_bytes() for file in folder.iterdir()}
    return {**written, "original/consolidated.00.pth": b"x" * 5000, "README.md": b"hello"}


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[FakeHub]:
    with serving(FakeHub({REPOSITORY: files, "someone/notes": {"README.md": b"x"}})) as running:
        yield running


def puna(
    hub: FakeHub, home: Path, *arguments: str, **more: str
) -> subprocess.CompletedProcess[str]:
    without = {"HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"}
    inherited = {name: value for name, value in os.environ.items() if name not in without}
    return subprocess.run(
        [PUNA, *arguments],
        env={**inherited, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def one_line(text: str) -> str:
    assert text.startswith("puna: ")
    assert text.count("\n") == 1, text
    return text


def test_a_catalog_name_is_fetched_found_and_answers(hub: FakeHub, tmp_path: Path) -> None:
    done = puna(hub, tmp_path, "pull", NAME)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert {file.name for file in folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }, "neither Meta's second copy of the weights nor the README"
    listed = puna(hub, tmp_path, "models").stdout
    assert next(line for line in listed.splitlines() if NAME in line).endswith(str(folder))
    hub.requests.clear()
    asked = puna(hub, tmp_path, "ask", "-m", NAME, "hello", "--max-tokens", "2", "--json")
    assert '"completion_tokens": 2' in asked.stdout, asked.stderr
    assert hub.requests == [], "nothing but `puna pull` talks to the hub"


def test_a_second_pull_says_that_all_is_here(hub: FakeHub, tmp_path: Path) -> None:
    first = puna(hub, tmp_path, "pull", NAME)
    hub.requests.clear()
    again = puna(hub, tmp_path, "pull", NAME)
    assert again.stdout == first.stdout
    assert "is here already" in again.stderr
    assert not [line for line in hub.requests if line.startswith("GET meta-llama")]


def big_hub(hub: FakeHub, files: dict[str, bytes], size: int = 3 * 2**20) -> bytes:
    big = bytes(range(256)) * (size // 256)
    hub.repositories = {REPOSITORY: {**files, BIG: big}}
    return big


def test_a_line_that_breaks_is_taken_up_where_it_broke(
    hub: FakeHub, files: dict[str, bytes], tmp_path: Path
) -> None:
    big = big_hub(hub, files)
    hub.breaks, hub.cut_after = {BIG}, 2 * 2**20 + 5
    done = puna(hub, tmp_path, "pull", NAME)
    assert done.returncode == 0, done.stderr
    assert (Path(done.stdout.strip()) / BIG).read_bytes() == big
    ranges = [line.split()[-1] for line in hub.requests if BIG in line and "bytes=" in line]
    assert len(ranges) == 1
    assert int(ranges[0].removeprefix("bytes=").rstrip("-")) >= 2**20


def test_what_a_killed_pull_brought_is_used_by_the_next(
    hub: FakeHub, files: dict[str, bytes], tmp_path: Path
) -> None:
    big = big_hub(hub, files)
    blobs = tmp_path / "hub" / f"models--{REPOSITORY.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{etag(big)}.incomplete").write_bytes(big[:1_000_000])
    assert "in part" in puna(hub, tmp_path, "models").stdout
    refused = puna(hub, tmp_path, "serve", NAME)
    assert refused.returncode == 1
    assert "puna pull" in one_line(refused.stderr)
    done = puna(hub, tmp_path, "pull", NAME)
    assert (Path(done.stdout.strip()) / BIG).read_bytes() == big
    assert f"bytes={1_000_000}-" in " ".join(hub.requests)


def test_bytes_that_are_not_those_announced_are_thrown_away(
    hub: FakeHub, files: dict[str, bytes], tmp_path: Path
) -> None:
    big = big_hub(hub, files)
    blobs = tmp_path / "hub" / f"models--{REPOSITORY.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{etag(big)}.incomplete").write_bytes(b"?" * len(big))
    done = puna(hub, tmp_path, "pull", NAME)
    assert done.returncode == 1
    assert "other bytes than the hub announced" in done.stderr
    assert puna(hub, tmp_path, "pull", NAME).returncode == 0


def test_a_gated_model_without_a_token_says_what_to_do(hub: FakeHub, tmp_path: Path) -> None:
    hub.gated = {REPOSITORY}
    done = puna(hub, tmp_path, "pull", NAME)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert f"{REPOSITORY} is gated" in last
    assert f"{hub.url}/{REPOSITORY}" in last
    assert "set HF_TOKEN" in last
    assert puna(hub, tmp_path, "pull", NAME, HF_TOKEN=hub.token).returncode == 0


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        (NAME, {"HF_TOKEN": "hf_wrong"}, "does not know your token"),
        ("someone/else", {}, "there is no someone/else"),
        ("someone/notes", {}, "no weights that Puna can read"),
        ("Llama-3.2-1B-Instrukt", {}, "did you mean Llama-3.2-1B-Instruct?"),
        ("Llama-4-Scout-17B-16E-Instruct", {}, "another architecture"),
        ("cria-text", {}, "comes with Puna"),
        ("a/b/c", {}, "there is no model 'a/b/c'"),
        ("bad name/x y", {}, "is no repository"),
        (NAME, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "check the network"),
    ],
)
def test_what_goes_wrong_is_one_clear_line(
    hub: FakeHub, tmp_path: Path, name: str, more: dict[str, str], said: str
) -> None:
    done = puna(hub, tmp_path, "pull", name, **more)
    assert done.returncode == 1
    assert said in one_line(done.stderr)


def test_a_cache_that_cannot_be_written_is_named(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = puna(hub, tmp_path, "pull", NAME, HF_HUB_CACHE=str(tmp_path / "file"))
    assert done.returncode == 1
    assert "set HF_HOME" in done.stderr.splitlines()[-1]


def test_a_name_that_is_not_here_is_never_fetched_unasked(hub: FakeHub, tmp_path: Path) -> None:
    for command in (["serve"], ["ask", "hello", "-m"], ["chat"]):
        done = puna(hub, tmp_path, *command, NAME)
        assert done.returncode == 1
        assert f"puna pull {NAME}" in one_line(done.stderr)
    assert hub.requests == []
