"""Giving memory back: what may be lost, and what not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from puna.kernels import give_back, trim


def test_what_a_file_holds_is_there_when_it_is_touched_again(tmp_path: Path) -> None:
    file = tmp_path / "numbers"
    file.write_bytes(bytes(range(256)) * 1000)
    numbers = torch.from_file(str(file), size=256_000, dtype=torch.uint8)
    before = numbers.clone()
    give_back(numbers, numbers[5:70_000])
    assert torch.equal(numbers, before)


@pytest.mark.parametrize("first", [0, 1, 4095, 4096, 5000])
@pytest.mark.parametrize("size", [0, 1, 4096, 9000, 60_000])
def test_nothing_beside_a_tensor_is_lost(first: int, size: int) -> None:
    numbers = torch.ones(100_000, dtype=torch.uint8)
    give_back(numbers[first : first + size])
    assert numbers[:first].all()
    assert numbers[first + size :].all()
    if sys.platform == "linux" and size == 60_000:
        assert not numbers.all()
    trim()
