"""Simple pictures, drawn: coloured shapes on a background, and what is true of them.

A `Scene` is drawn by `draw`, described by `training.vision.talk`; it knows no words but the names
of its own colours, shapes and places. Every object lies in one cell of a 3 x 3 grid, well inside
it, so that "at the top left" is never a matter of opinion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (218, 38, 38),
    "orange": (245, 138, 28),
    "yellow": (244, 220, 48),
    "green": (48, 158, 66),
    "blue": (38, 84, 208),
    "purple": (128, 54, 168),
    "pink": (246, 152, 192),
    "brown": (128, 78, 38),
    "black": (20, 20, 22),
    "white": (248, 248, 246),
    "grey": (140, 140, 142),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    **COLOURS,
    "light blue": (178, 214, 246),
    "light green": (186, 232, 180),
    "beige": (240, 226, 194),
    "dark blue": (16, 30, 92),
    "dark green": (14, 74, 34),
}
SHAPES = (
    *("circle", "square", "triangle", "star", "heart"),
    *("diamond", "ring", "cross", "rectangle", "oval"),
)
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")


@dataclass(frozen=True)
class Thing:
    """`x`, `y` fractions of width and height; `size` a fraction of the shorter side (a radius)."""

    shape: str
    colour: str
    x: float
    y: float
    size: float

    @property
    def row(self) -> int:
        return min(2, int(self.y * 3))

    @property
    def column(self) -> int:
        return min(2, int(self.x * 3))


@dataclass(frozen=True)
class Group:
    """Things of one colour and shape, in reading order."""

    things: tuple[Thing, ...]

    @property
    def shape(self) -> str:
        return self.things[0].shape

    @property
    def colour(self) -> str:
        return self.things[0].colour

    @property
    def count(self) -> int:
        return len(self.things)


@dataclass(frozen=True)
class Scene:
    width: int
    height: int
    background: str
    groups: tuple[Group, ...]
    seed: int

    @property
    def things(self) -> list[Thing]:
        return [thing for group in self.groups for thing in group.things]


def held_out(colour: str, shape: str) -> bool:
    """A tenth of the pairs of colour and shape, which training never shows."""
    names = list(COLOURS)
    return (names.index(colour) * 3 + SHAPES.index(shape) * 7) % 11 == 5


def distance(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    return math.dist(a, b)


def canvas_size(rng: Random) -> tuple[int, int]:
    """Sizes in pixels: most are larger than the model's canvas, as people's pictures are."""
    ratio = rng.choice(
        [4 / 3] * 6 + [1.0] * 4 + [3 / 2] * 3 + [16 / 9] * 3 + [3 / 4] * 2 + [2 / 3, 9 / 16]
    )
    if rng.random() < 0.05:
        ratio = rng.choice([2.0, 2.4, 3.0, 0.5, 0.4])
    long = rng.randint(40, 110) if rng.random() < 0.08 else rng.randint(200, 300)
    short = max(16, round(long / max(ratio, 1 / ratio)))
    return (long, short) if ratio >= 1 else (short, long)


def sample(rng: Random, held: bool | None = False) -> Scene:
    """A scene. `held`: False never uses a held-out pair, True always one, None does not care."""
    width, height = canvas_size(rng)
    small = max(width, height) <= 110
    background = rng.choice(list(BACKGROUNDS) + ["white"] * 8 + ["light blue"] * 2 + ["black"] * 2)
    pairs = [
        (colour, shape)
        for colour, value in COLOURS.items()
        for shape in SHAPES
        if distance(value, BACKGROUNDS[background]) > 85
    ]
    allowed = [pair for pair in pairs if held is None or not held_out(*pair)]
    wanted = rng.choices((0, 1, 2, 3, 4), (2, 30, 35, 23, 10))[0]
    if small:  # a few pixels each: fewer things
        wanted = min(wanted, 2)
    kinds: list[tuple[str, str]] = []
    if held and wanted and (special := [pair for pair in pairs if held_out(*pair)]):
        kinds.append(rng.choice(special))
        allowed = pairs
    while len(kinds) < wanted:
        pair = rng.choice(allowed)
        if rng.random() < 0.3 and kinds:  # the same shape or colour again: look closely
            other = rng.choice(kinds)
            near = [p for p in allowed if (p[0] == other[0]) != (p[1] == other[1])]
            pair = rng.choice(near or allowed)
        if pair not in kinds:
            kinds.append(pair)
    rng.shuffle(kinds)
    counts = [rng.choices((1, 2, 3, 4), (72, 14, 9, 5))[0] for _ in kinds]
    while sum(counts) > (3 if small else 6):
        counts[counts.index(max(counts))] -= 1
    total = sum(counts)
    grow = 1.4 if small else 1.25 if max(width, height) >= 2 * min(width, height) else 1.0
    places = [(x, y, min(0.42, size * grow)) for x, y, size in layout(rng, total)]
    groups: list[Group] = []
    for (colour, shape), count in zip(kinds, counts, strict=True):
        own, places = places[:count], places[count:]
        things = [Thing(shape, colour, *place) for place in own]
        groups.append(Group(tuple(sorted(things, key=reading_order))))
    groups.sort(key=lambda group: reading_order(group.things[0]))
    return Scene(width, height, background, tuple(groups), rng.getrandbits(32))


def reading_order(thing: Thing) -> tuple[int, int]:
    return thing.row, thing.column


def layout(rng: Random, total: int) -> list[tuple[float, float, float]]:
    """`total` places (x, y, size), one a cell, in random order."""
    if total == 0:
        return []
    if total == 1 and rng.random() < 0.5:
        size = rng.uniform(0.14, 0.42)
        return [(0.5 + rng.uniform(-0.06, 0.06), 0.5 + rng.uniform(-0.06, 0.06), size)]
    cells = [(row, column) for row in range(3) for column in range(3)]
    kind = rng.choice(["grid", "grid", "corners", "row", "column"])
    largest = 0.15
    if kind == "corners" and total <= 4:
        cells, largest = [(0, 0), (0, 2), (2, 0), (2, 2)], 0.21
    elif kind == "row" and total <= 3:
        row = rng.choice([0, 1, 1, 1, 2])
        cells = [(row, 0), (row, 2)] if total == 2 else [(row, 0), (row, 1), (row, 2)]
        largest = 0.2 if total == 2 else 0.15
    elif kind == "column" and total <= 3:
        column = rng.choice([0, 1, 1, 1, 2])
        cells = [(0, column), (1, column), (2, column)]
    rng.shuffle(cells)
    same = rng.random() < 0.4
    size = rng.uniform(0.1, largest)
    return [
        (
            (column + 0.5) / 3 + rng.uniform(-0.07, 0.07),
            (row + 0.5) / 3 + rng.uniform(-0.07, 0.07),
            size if same else rng.uniform(0.1, largest),
        )
        for row, column in cells[:total]
    ]


def polygon(shape: str, fine: int = 28) -> list[tuple[float, float]]:
    """Points of a shape that fits a circle of radius 1 (y downwards); a heart has `fine` points."""
    if shape in ("square", "diamond"):
        s = 0.86
        return [(-s, -s), (s, -s), (s, s), (-s, s)]
    if shape == "rectangle":
        return [(-1, -0.5), (1, -0.5), (1, 0.5), (-1, 0.5)]
    if shape == "triangle":
        return [(0, -1), (0.95, 0.8), (-0.95, 0.8)]
    if shape == "star":
        turns = [math.pi * k / 5 - math.pi / 2 for k in range(10)]
        return [
            (
                (1.08 if k % 2 == 0 else 0.44) * math.cos(t),
                (1.08 if k % 2 == 0 else 0.44) * math.sin(t),
            )
            for k, t in enumerate(turns)
        ]
    if shape == "cross":
        a, b = 0.34, 1.0
        corner = [(a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b)]
        return corner + [(-x, -y) for x, y in corner]
    if shape == "heart":
        turns = [2 * math.pi * k / fine for k in range(fine)]
        return [
            (
                math.sin(t) ** 3,
                -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t))
                / 16,
            )
            for t in turns
        ]
    squeeze = 0.52 if shape == "oval" else 1.0
    turns = [2 * math.pi * k / 40 for k in range(40)]
    return [(math.cos(t), squeeze * math.sin(t)) for t in turns]


def jitter(rng: Random, colour: tuple[int, int, int], amount: int = 14) -> tuple[int, int, int]:
    r, g, b = (max(0, min(255, c + rng.randint(-amount, amount))) for c in colour)
    return r, g, b


def draw(scene: Scene) -> tuple[Image.Image, Image.Image]:
    """The picture (RGB) and a map of the same size: 0 for background, 1 + index for a thing."""
    rng = Random(scene.seed)
    size = (scene.width, scene.height)
    colour = jitter(rng, BACKGROUNDS[scene.background], 8)
    image = Image.new("RGB", size, colour)
    if rng.random() < 0.25:  # a soft change of light across the background
        shift = rng.randint(8, 26)
        darker = tuple(max(0, c - shift) for c in colour)
        ramp = Image.linear_gradient("L").resize(size)
        if rng.random() < 0.5:
            ramp = Image.linear_gradient("L").rotate(90).resize(size)
        image.paste(darker, mask=ramp)
    where = Image.new("L", size)
    short = min(size)
    tones = {group.colour: jitter(rng, COLOURS[group.colour]) for group in scene.groups}
    outlined = rng.random() < 0.12
    for index, thing in enumerate(scene.things):
        turn = rng.uniform(-0.14, 0.14) if rng.random() < 0.5 else 0.0
        if thing.shape == "diamond":
            turn = math.pi / 4 + turn / 2
        elif thing.shape in ("rectangle", "oval") and rng.random() < 0.35:
            turn += math.pi / 2
        radius = thing.size * short * (1.12 if thing.shape in ("rectangle", "oval") else 1.0)
        sin, cos = math.sin(turn), math.cos(turn)
        cx, cy = thing.x * scene.width, thing.y * scene.height
        radius = min(radius, 1.02 * min(cx, cy, scene.width - cx, scene.height - cy))
        points = [
            (cx + radius * (x * cos - y * sin), cy + radius * (x * sin + y * cos))
            for x, y in polygon(thing.shape)
        ]
        mask = Image.new("L", size)
        pen = ImageDraw.Draw(mask)
        pen.polygon(points, fill=255)
        if thing.shape == "ring":
            inner = radius * rng.uniform(0.5, 0.62)
            pen.ellipse((cx - inner, cy - inner, cx + inner, cy + inner), fill=0)
        image.paste(tones[thing.colour], mask=mask)
        if (
            outlined
            and thing.shape != "ring"
            and scene.background != "black"
            and thing.colour != "black"
        ):
            ImageDraw.Draw(image).line(
                [*points, points[0]], fill=(25, 25, 25), width=max(1, short // 90)
            )
        where.paste(index + 1, mask=mask)
    return weather(rng, image), where


def weather(rng: Random, image: Image.Image) -> Image.Image:
    """What cameras and files do to a picture: noise, blur, a little."""
    if rng.random() < 0.1:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.1)))
    if rng.random() < 0.3:
        noise = np.random.default_rng(rng.getrandbits(32)).normal(
            0, rng.uniform(1, 7), (image.height, image.width, 1)
        )
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    return image
