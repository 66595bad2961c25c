"""Sizes and aliases, as people write them."""

import pytest
import typer

from puna.cli.options import aliases, size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4096", 4096),
        ("4k", 4000),
        ("512MB", 512_000_000),
        ("512 mb", 512_000_000),
        ("4GiB", 4 * 2**30),
        ("1.5G", 1_500_000_000),
        ("2Ti", 2 * 2**40),
    ],
)
def test_sizes_in_the_usual_units(text: str, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1 PB", "1e9", "4 i"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected bytes"):
        size(text)


def test_aliases_keep_equal_signs_of_the_model() -> None:
    assert aliases(["old=new", " a = /path/x=y "]) == {"old": "new", "a": "/path/x=y"}


@pytest.mark.parametrize("pair", ["old", "=new", "old=", "="])
def test_half_an_alias_is_refused(pair: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected NAME=MODEL"):
        aliases([pair])
