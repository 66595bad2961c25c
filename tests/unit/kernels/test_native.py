"""How the compiled kernels are found and kept: their threads, and files that do not fit."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from puna.kernels import native
from puna.kernels.packed import linear, pack

needs_native = pytest.mark.skipif(
    native.library() is None, reason=f"no native kernels here: {native.why_not()}"
)


@needs_native
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@torch.inference_mode()
def test_a_forked_process_computes_with_threads_of_its_own() -> None:
    weight, x = pack(torch.randn(4000, 64), "int8"), torch.randn(8, 64)
    expected = linear(x, weight)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if torch.equal(linear(x, weight), expected) else 1)
        finally:
            os._exit(2)
    deadline = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child waits for threads that it does not have")
    assert ended == (child, 0)


@pytest.mark.parametrize("content", [b"", b"no library"])
def test_a_file_that_cannot_be_loaded_leaves_torch_and_a_word_on_it(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "_avx2.so").write_bytes(content)
    monkeypatch.setattr(native, "_FOLDER", tmp_path)
    monkeypatch.setattr(native, "processor_flags", lambda: frozenset({"avx2", "fma", "f16c"}))
    monkeypatch.setattr(native, "_open", native._open.__wrapped__)
    monkeypatch.setattr(native, "chosen", native.chosen.__wrapped__)
    monkeypatch.setattr(native, "_best", native._best.__wrapped__)
    assert native.library() is None
    assert "_avx2.so does not belong to this Puna" in (native.why_not() or "")


@needs_native
def test_kernels_that_the_system_does_not_allow_make_way_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual, sets, opened = native.chosen(), native.instruction_sets(), native._open
    monkeypatch.setattr(native, "instruction_sets", lambda: ["denied", *sets])
    monkeypatch.setattr(native, "_open", lambda name: "no" if name == "denied" else opened(name))
    monkeypatch.setattr(native, "chosen", native.chosen.__wrapped__)
    assert native.chosen() == usual
    assert native.why_not() is None


def test_a_processor_without_the_instructions_is_told_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_FOLDER", tmp_path)
    monkeypatch.setattr(native, "chosen", native.chosen.__wrapped__)
    monkeypatch.setattr(native, "_best", native._best.__wrapped__)
    assert native.library() is None
    assert "not compiled" in (native.why_not() or "")
    (tmp_path / "_neon.so").touch()
    monkeypatch.setattr(native, "processor_flags", frozenset)
    assert native.why_not() == "this processor has none of neon"


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "110000 100000\n"}, 2),
        ({"cpu.max": "nonsense"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "90000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({}, None),
    ],
)
def test_threads_follow_the_quota_of_a_container(
    tmp_path: Path, files: dict[str, str], most: int | None
) -> None:
    free = native.processors(tmp_path)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert native.processors(tmp_path) == (min(free, most) if most else free)
