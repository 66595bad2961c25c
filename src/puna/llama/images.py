"""Image bytes -> tiles of pixels, as the vision checkpoints were taught to see them.

It knows files' formats (through Pillow) and the canvas rule; it knows no model and no prompt.
Sources: Meta's `VariableSizeImageTransform` and transformers' `MllamaImageProcessor`, which agree.
"""

from __future__ import annotations

import hashlib
import io
import math
import warnings
from dataclasses import dataclass, field

import torch
from PIL import Image, ImageOps
from torch import Tensor

from puna.errors import InvalidImage
from puna.llama.config import VisionConfig

# A short list, because some of Pillow's other readers start programs or follow links.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """`pixels` float32 [max_num_tiles, 3, size, size], tiles past `num_tiles` are 0.0.

    `aspect_ratio_id` counts the supported ratios from 1. `digest` (32 bytes) is the same for two
    images exactly when the model cannot tell them apart: the key under which work is shared.
    """

    pixels: Tensor = field(repr=False, compare=False)
    aspect_ratio_id: int
    num_tiles: int
    digest: bytes


def prepare_image(data: bytes, config: VisionConfig, *, max_pixels: int) -> PreparedImage:
    """Decodes, fits, pads, normalises and cuts an image into tiles.

    Raises `InvalidImage` when `data` is no image, is cut off, or has more than `max_pixels` pixels.
    Of an animation the first frame is taken.
    """
    return tile_image(decode_image(data, max_pixels=max_pixels), config)


def tile_image(image: Image.Image, config: VisionConfig) -> PreparedImage:
    """Fits, pads, normalises and cuts an RGB image into tiles."""
    size = config.image_size
    rows, columns = choose_canvas(image.height, image.width, config)
    height, width = fit_canvas(image.height, image.width, rows * size, columns * size, size)
    canvas = Image.new("RGB", (columns * size, rows * size))
    canvas.paste(image.resize((width, height), Image.Resampling.BILINEAR))

    raw = canvas.tobytes()
    pixels = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
    pixels = pixels.view(rows, size, columns, size, 3).permute(0, 2, 4, 1, 3).flatten(0, 1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    tiles = torch.zeros(config.max_num_tiles, 3, size, size)
    tiles[: rows * columns] = (pixels.float() / 255 - mean) / std

    ratio = config.supported_aspect_ratios.index((rows, columns)) + 1
    digest = hashlib.sha256(f"{rows}x{columns}x{size}:".encode() + raw).digest()
    return PreparedImage(tiles, ratio, rows * columns, digest)


def decode_image(data: bytes, *, max_pixels: int) -> Image.Image:
    """The first frame as upright RGB, transparent parts on white. Raises `InvalidImage`."""
    try:
        with warnings.catch_warnings():
            # Pillow's own alarm is a global setting; `max_pixels` takes its place
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise InvalidImage(
            f"the image has too many pixels: at most {max_pixels} are taken. Send a smaller one."
        ) from error
    except Exception as error:  # readers of hostile bytes raise anything
        raise InvalidImage(
            f"the data ({len(data)} bytes) is not an image that can be read: expected "
            f"{', '.join(FORMATS)}. Send the file's own bytes in one of these formats."
        ) from error
    pixels = image.width * image.height
    if not pixels:
        raise InvalidImage("the image is empty (zero pixels): send one with at least one pixel.")
    if pixels > max_pixels:
        raise InvalidImage(
            f"the image has {image.width} x {image.height} = {pixels} pixels: "
            f"at most {max_pixels} are taken. Send a smaller one."
        )
    try:
        image.load()
        return _flatten(ImageOps.exif_transpose(image))
    except Exception as error:
        raise InvalidImage(
            f"the {image.format} image is damaged or cut off ({error}). Send the whole file."
        ) from error


def _flatten(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow would clip, not scale
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    return image.convert("RGB")


def choose_canvas(height: int, width: int, config: VisionConfig) -> tuple[int, int]:
    """(rows, columns) of tiles: least enlargement if any fits, else least shrinking, least area."""

    def scale(canvas: tuple[int, int]) -> float:
        rows, columns = canvas
        return min(rows * config.image_size / height, columns * config.image_size / width)

    def cost(canvas: tuple[int, int]) -> tuple[bool, float, int]:
        s = scale(canvas)
        return s < 1, s if s >= 1 else -s, canvas[0] * canvas[1]

    return min(config.supported_aspect_ratios, key=cost)


def fit_canvas(
    height: int, width: int, canvas_height: int, canvas_width: int, tile: int
) -> tuple[int, int]:
    """The (height, width) in pixels to resize to: small images grow to one tile, not beyond."""
    target_height = min(max(height, tile), canvas_height)
    target_width = min(max(width, tile), canvas_width)
    if target_width / width < target_height / height:
        return min(math.floor(height * (target_width / width)) or 1, target_height), target_width
    return target_height, min(math.floor(width * (target_height / height)) or 1, target_width)
