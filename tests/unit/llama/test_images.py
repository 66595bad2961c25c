"""Image bytes to tiles: what is taken, what is refused, and what the pixels are."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pytest
import torch
from PIL import Image

from puna.errors import InvalidImage
from puna.llama.config import VisionConfig
from puna.llama.images import MEAN, STD, decode_image, prepare_image

CONFIG = VisionConfig(image_size=56)
LIMIT = 1_000_000


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def colours(tiles: torch.Tensor) -> torch.Tensor:
    """Normalised pixels back to 0..255."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return ((tiles * std + mean) * 255).round()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_listed_format_is_read_by_its_bytes_and_not_its_name(kind: str) -> None:
    image = decode_image(encoded(Image.new("RGB", (30, 20), (200, 30, 40)), kind), max_pixels=LIMIT)
    assert image.size == (30, 20)
    assert image.mode == "RGB"
    pixel = image.getpixel((10, 10))
    assert isinstance(pixel, tuple)
    assert all(abs(a - b) <= 6 for a, b in zip(pixel, (200, 30, 40), strict=True))


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"%PDF-1.4", b"\0" * 100])
def test_bytes_that_are_no_image_are_refused_in_one_clear_line(data: bytes) -> None:
    with pytest.raises(InvalidImage, match=r"expected PNG, JPEG.*Send") as caught:
        prepare_image(data, CONFIG, max_pixels=LIMIT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_an_image_cut_off_at_any_point_is_refused_and_never_crashes(kind: str) -> None:
    torch.manual_seed(0)
    noise = torch.randint(0, 256, (40 * 40 * 3,), dtype=torch.uint8)
    data = encoded(Image.frombytes("RGB", (40, 40), bytes(noise.tolist())), kind)
    for part in range(1, 9):
        with pytest.raises(InvalidImage):
            prepare_image(data[: len(data) * part // 10], CONFIG, max_pixels=LIMIT)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked() -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    for side in (20_000, 60_000):  # below and above Pillow's own limit
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000)))
        with pytest.raises(InvalidImage, match="at most 1000000"):
            prepare_image(bomb, CONFIG, max_pixels=LIMIT)


def test_the_pixel_limit_is_the_callers_and_includes_its_own_value() -> None:
    data = encoded(Image.new("RGB", (10, 10)))
    assert prepare_image(data, CONFIG, max_pixels=100).num_tiles == 1
    with pytest.raises(InvalidImage, match="10 x 10 = 100 pixels: at most 99"):
        prepare_image(data, CONFIG, max_pixels=99)


def test_an_animation_shows_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data, max_pixels=LIMIT).getpixel((4, 4)) == (255, 0, 0)


def test_transparent_parts_become_white_in_every_mode() -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    grey = Image.new("LA", (4, 4), (0, 0))
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    images = [encoded(clear), encoded(grey), encoded(palette, transparency=0)]
    for data in images:
        assert decode_image(data, max_pixels=LIMIT).getpixel((1, 1)) == (255, 255, 255)
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    assert decode_image(encoded(half), max_pixels=LIMIT).getpixel((1, 1)) == (255, 127, 127)


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    image = Image.new("I;16", (4, 4), 32768)
    assert decode_image(encoded(image), max_pixels=LIMIT).getpixel((1, 1)) == (127, 127, 127)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB", "I", "F"])
def test_every_mode_of_picture_becomes_rgb(mode: str) -> None:
    data = encoded(Image.new(mode, (5, 5)), "TIFF")
    assert decode_image(data, max_pixels=LIMIT).mode == "RGB"


def test_a_picture_that_says_it_lies_on_its_side_is_turned_upright() -> None:
    image = Image.new("RGB", (40, 20), "red")
    image.paste((0, 0, 255), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    upright = decode_image(encoded(image, exif=exif), max_pixels=LIMIT)
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5)) == (0, 0, 255)
    assert upright.getpixel((10, 35)) == (255, 0, 0)


def test_tiles_go_row_by_row_and_unused_ones_are_zero() -> None:
    image = Image.new("RGB", (112, 112))
    for index, colour in enumerate([(10, 0, 0), (20, 0, 0), (30, 0, 0), (40, 0, 0)]):
        column, row = index % 2, index // 2
        image.paste(colour, (column * 56, row * 56, column * 56 + 56, row * 56 + 56))
    four = prepare_image(encoded(image), CONFIG, max_pixels=LIMIT)
    assert (four.num_tiles, four.aspect_ratio_id) == (4, 6)
    assert [int(colours(tile)[0, 20, 20]) for tile in four.pixels] == [10, 20, 30, 40]
    wide = prepare_image(encoded(Image.new("RGB", (112, 50))), CONFIG, max_pixels=LIMIT)
    assert (wide.num_tiles, wide.aspect_ratio_id) == (2, 2)
    assert not wide.pixels[2:].any()


def test_padding_is_black_and_below_and_to_the_right() -> None:
    prepared = prepare_image(encoded(Image.new("RGB", (56, 28), "white")), CONFIG, max_pixels=LIMIT)
    tile = colours(prepared.pixels[0])
    assert (tile[:, :28] == 255).all()
    assert (tile[:, 28:] == 0).all()


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 1), (3, 999)])
def test_extreme_shapes_keep_at_least_one_pixel(size: tuple[int, int]) -> None:
    prepared = prepare_image(encoded(Image.new("RGB", size, "white")), CONFIG, max_pixels=LIMIT)
    assert (colours(prepared.pixels[: prepared.num_tiles]) == 255).any()


def test_the_digest_tells_pictures_apart_and_files_of_one_picture_not() -> None:
    image = Image.new("RGB", (60, 60), (1, 2, 3))
    other = image.copy()
    other.putpixel((30, 30), (1, 2, 4))

    def digest(data: bytes, config: VisionConfig = CONFIG) -> bytes:
        return prepare_image(data, config, max_pixels=LIMIT).digest

    assert digest(encoded(image)) == digest(encoded(image, "BMP"))
    assert digest(encoded(image)) != digest(encoded(other))
    black = [encoded(Image.new("RGB", size)) for size in ((112, 50), (50, 112))]
    assert digest(black[0]) != digest(black[1])
    assert len(digest(black[0])) == 32
