"""Pictures that look like photographs, made of noise, and the colours that are true of them.

There are no photographs to learn from here, so these stand in: bands of sky and land, gradients,
textures, soft blobs, blocks. Their description is measured on the finished pixels: the colour that
most pixels of a band have, by `names_of`. A picture whose bands are not clearly of one colour is
thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageFilter

from training.vision.scenes import canvas_size

NAMES = (
    "black", "white", "grey", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown",
    "light blue", "light green", "beige", "dark blue", "dark green",
)  # fmt: skip
PALETTE = {
    "black": (18, 18, 20),
    "white": (244, 244, 244),
    "grey": (130, 130, 132),
    "red": (190, 40, 36),
    "orange": (236, 136, 40),
    "yellow": (236, 208, 60),
    "green": (70, 150, 60),
    "blue": (50, 100, 200),
    "purple": (124, 64, 158),
    "pink": (236, 156, 186),
    "brown": (120, 80, 46),
    "light blue": (166, 206, 240),
    "light green": (176, 222, 164),
    "beige": (222, 204, 168),
    "dark blue": (20, 36, 90),
    "dark green": (24, 72, 34),
}
SKIES = ("light blue", "blue", "grey", "white", "orange", "pink", "dark blue", "black", "purple")
LANDS = (
    "green",
    "dark green",
    "light green",
    "beige",
    "brown",
    "white",
    "grey",
    "blue",
    "dark blue",
    "yellow",
)


@dataclass(frozen=True)
class Photo:
    """`bands`: colours of the top, middle and bottom thirds, or of left, centre and right."""

    bands: tuple[str, str, str]
    upright: bool

    @property
    def uniform(self) -> bool:
        return len(set(self.bands)) == 1


def names_of(pixels: np.ndarray) -> np.ndarray:
    """uint8 [..., 3] -> index into `NAMES`: the word that most people would use."""
    rgb = pixels.astype(np.float32) / 255
    high, low = rgb.max(-1), rgb.min(-1)
    span = high - low
    safe = np.where(span > 1e-6, span, 1)
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    hue = (
        np.where(
            high == r,
            (g - b) / safe % 6,
            np.where(high == g, (b - r) / safe + 2, (r - g) / safe + 4),
        )
        * 60
    )
    tint = np.where(high > 1e-6, span / np.maximum(high, 1e-6), 0)
    n = {name: i for i, name in enumerate(NAMES)}
    out = np.full(high.shape, n["grey"])
    chosen = np.zeros(high.shape, bool)

    def rule(where: np.ndarray, name: str) -> None:
        nonlocal chosen
        out[where & ~chosen] = n[name]
        chosen = chosen | where

    rule(high < 0.17, "black")
    rule((tint < 0.09) & (high > 0.86), "white")
    rule((tint < 0.13) | ((high < 0.3) & (tint < 0.25)), "grey")
    rule((hue >= 20) & (hue < 62) & (tint < 0.36) & (high > 0.7), "beige")
    rule((hue >= 62) & (hue < 165) & (tint < 0.42) & (high > 0.68), "light green")
    rule((hue >= 165) & (hue < 250) & (tint < 0.45) & (high > 0.72), "light blue")
    rule((hue >= 62) & (hue < 170) & (high < 0.4), "dark green")
    rule((hue >= 170) & (hue < 262) & (high < 0.48), "dark blue")
    rule(((hue < 16) | (hue >= 330)) & (tint < 0.58) & (high > 0.72), "pink")
    rule((hue >= 290) & (hue < 345) & (high > 0.7), "pink")
    rule((hue >= 255) & (hue < 330), "purple")
    rule((hue < 46) & (high < 0.64) & ((hue >= 14) | (tint < 0.6)), "brown")
    rule((hue < 14) | (hue >= 330), "red")
    rule(hue < 42, "orange")
    rule(hue < 66, "yellow")
    rule(hue < 168, "green")
    rule(hue < 256, "blue")
    return out


def measure(image: Image.Image) -> Photo | None:
    """What is true of the picture, or None where its bands have no clear colour."""
    small = np.asarray(image.resize((24, 24), Image.Resampling.BOX))
    names = names_of(small)
    rows = [_clear(names[i * 8 : i * 8 + 8]) for i in range(3)]
    columns = [_clear(names[:, i * 8 : i * 8 + 8]) for i in range(3)]
    if None not in rows and (len(set(rows)) > 1 or len(set(columns)) == 1):
        return Photo((rows[0], rows[1], rows[2]), True)
    if None not in columns and len(set(columns)) > 1 and len({r for r in rows if r}) <= 1:
        return Photo((columns[0], columns[1], columns[2]), False)
    return None


def _clear(names: np.ndarray) -> str | None:
    counts = np.bincount(names.ravel(), minlength=len(NAMES))
    first, second = np.sort(counts)[::-1][:2]
    return (
        NAMES[int(counts.argmax())] if first >= 0.5 * names.size and first > 1.6 * second else None
    )


def noise(
    rng: np.random.Generator, width: int, height: int, octaves: int = 4, start: int = 2
) -> np.ndarray:
    """Smooth noise [height, width], about -1 to 1."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        cells = start * 2**octave
        grid = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
        total += np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC)) * 0.6**octave
    return total / 1.6


def sample(rng: Random) -> tuple[Image.Image, Photo]:
    while True:
        image = _paint(rng)
        photo = measure(image)
        if photo is not None:
            return image, photo


def _paint(rng: Random) -> Image.Image:
    width, height = canvas_size(rng)
    scale = 128 / max(width, height)
    width, height = max(16, round(width * scale)), max(16, round(height * scale))
    dice = np.random.default_rng(rng.getrandbits(32))
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(0, 1, width, dtype=np.float32)[None, :]

    def colour(name: str, spread: int = 22) -> np.ndarray:
        return np.array(PALETTE[name], np.float32) + dice.normal(0, spread / 2, 3).astype(
            np.float32
        )

    kind = rng.choice(["land", "land", "land", "gradient", "texture", "blobs", "blocks"])
    if kind == "land":
        line = rng.choice([0.33, 0.5, 0.66]) + rng.uniform(-0.1, 0.1)
        edge = line + 0.06 * noise(dice, width, 1, 3) * rng.uniform(0, 1.5)
        sky = colour(rng.choice(SKIES)) + (y[..., None] - 0.3) * dice.normal(0, 40, 3).astype(
            np.float32
        )
        land = colour(rng.choice(LANDS)) + noise(dice, width, height, 5)[..., None] * rng.uniform(
            5, 30
        )
        land = land * (1.15 - 0.4 * y[..., None] * rng.uniform(0, 1))
        sky = sky + noise(dice, width, height, 4)[..., None] * rng.uniform(0, 18)
        pixels = np.where((y > edge)[..., None], land, sky)
        if rng.random() < 0.4:
            second = line + (1 - line) * rng.uniform(0.4, 0.6)
            third = colour(rng.choice(LANDS)) + noise(dice, width, height, 5)[
                ..., None
            ] * rng.uniform(5, 30)
            pixels = np.where(
                (y > second + 0.04 * noise(dice, width, 1, 3))[..., None], third, pixels
            )
        if rng.random() < 0.4:
            cx, cy, radius = rng.random(), rng.uniform(0, line), rng.uniform(0.03, 0.12)
            sun = ((x - cx) ** 2 + (y - cy) ** 2 < radius**2)[..., None]
            pixels = np.where(sun, colour(rng.choice(["yellow", "white", "orange"])), pixels)
        if rng.random() < 0.4:
            trees = (noise(dice, width, height, 4, 4) > 0.7) & (np.abs(y - line) < 0.16)
            pixels = np.where(
                trees[..., None],
                colour(rng.choice(["dark green", "brown", "black", "grey"])),
                pixels,
            )
    elif kind == "gradient":
        first, second = colour(rng.choice(NAMES)), colour(rng.choice(NAMES))
        along = rng.choice([y + 0 * x, y + 0 * x, x + 0 * y])[..., None]
        along = np.clip((along - 0.5) * rng.uniform(1, 2.5) + 0.5, 0, 1)
        pixels = (
            first * (1 - along)
            + second * along
            + noise(dice, width, height, 3)[..., None] * rng.uniform(0, 12)
        )
    elif kind == "texture":
        pixels = colour(rng.choice(NAMES)) + noise(dice, width, height, 6, rng.choice([2, 4, 8]))[
            ..., None
        ] * rng.uniform(8, 34)
        pixels = pixels + noise(dice, width, height, 4)[..., None] * dice.normal(0, 10, 3).astype(
            np.float32
        )
    elif kind == "blobs":
        pixels = np.broadcast_to(colour(rng.choice(NAMES)), (height, width, 3)).copy()
        for _ in range(rng.randint(2, 7)):
            cx, cy, rx, ry = (
                rng.random(),
                rng.random(),
                rng.uniform(0.05, 0.35),
                rng.uniform(0.05, 0.35),
            )
            soft = np.exp(-(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2) * 2)[..., None]
            pixels = pixels * (1 - soft) + colour(rng.choice(NAMES)) * soft
        pixels = pixels + noise(dice, width, height, 5)[..., None] * rng.uniform(4, 20)
    else:
        across = rng.random() < 0.4
        cuts = sorted([rng.uniform(0.2, 0.5), rng.uniform(0.5, 0.85)])
        names = rng.sample(NAMES, 3)
        axis = x + 0 * y if across else y + 0 * x
        pixels = np.where(
            (axis < cuts[0])[..., None],
            colour(names[0]),
            np.where((axis < cuts[1])[..., None], colour(names[1]), colour(names[2])),
        )
        for _ in range(rng.randint(0, 5)):
            x0, y0 = rng.random(), rng.random()
            box = (
                (x > x0)
                & (x < x0 + rng.uniform(0.05, 0.25))
                & (y > y0)
                & (y < y0 + rng.uniform(0.05, 0.25))
            )
            pixels = np.where(box[..., None], colour(rng.choice(NAMES)), pixels)
        pixels = pixels + noise(dice, width, height, 5)[..., None] * rng.uniform(4, 18)
    if rng.random() < 0.5:
        pixels = pixels + dice.normal(0, rng.uniform(2, 9), (height, width, 1))
    if rng.random() < 0.3:
        fall = 1 - rng.uniform(0.1, 0.45) * (((x - 0.5) ** 2 + (y - 0.5) ** 2) * 2)[..., None]
        pixels = pixels * fall
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(0.6)) if rng.random() < 0.5 else image
