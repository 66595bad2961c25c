"""Pictures and talk -> arrays for one training step.

A row is one picture with several conversations about it, end to end: they share the prefix (the
system message and the image) and are hidden from one another, so each is what it would be alone,
while the picture is encoded once. Prompts are those that `puna.llama.prompt` renders for a vision
model. It knows no network.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer

from puna.llama.config import VisionConfig
from puna.llama.images import MEAN, STD, fit_canvas, tile_image
from training.vision import photos, scenes, talk, wordings
from training.vision.photos import Photo
from training.vision.scenes import COLOURS, SHAPES, Scene

ROW = 128
MEANS, STDS = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
IGNORE = -100
# What a patch shows, for the helper losses that teach the encoder where things are.
PATCH_COLOURS = list(dict.fromkeys([*COLOURS, *scenes.BACKGROUNDS, *photos.NAMES]))
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Words:
    """The tokenizer, with specials that only this code can write."""

    def __init__(self, path: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(path))
        self.vocab_size = self.tokenizer.token_to_id("<|image|>")
        self.encode = lru_cache(100_000)(self._encode)

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def special(self, name: str) -> int:
        return self.tokenizer.token_to_id(f"<|{name}|>")

    def header(self, role: str) -> list[int]:
        start, end = self.special("start_header_id"), self.special("end_header_id")
        return [start, *self.encode(role), end, *self.encode("\n\n")]

    def prefix(self, system: str) -> list[int]:
        ids = [self.special("begin_of_text")]
        if system:
            ids += [*self.header("system"), *self.encode(system), self.special("eot_id")]
        return ids

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids)


@dataclass
class Row:
    """One row's arrays; see `Batch` for their meaning."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    branches: list[int] = field(default_factory=list)
    sees: list[bool] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)

    def add(
        self, ids: list[int], wanted: list[bool], branch: int, start: int, image: int, seen: bool
    ) -> bool:
        """Appends ids; the wanted ones are learned from the token before. Returns whether the
        image has been seen by the end."""
        for offset, token in enumerate(ids):
            seen = seen or token == image
            if wanted[offset]:
                self.targets[-1] = token
            self.tokens.append(token)
            self.positions.append(start + offset)
            self.branches.append(branch)
            self.sees.append(seen)
            self.targets.append(IGNORE)
        return seen


@dataclass(frozen=True)
class Batch:
    """`pixels` [B, 4, 3, S, S]; `ratio`, `tiles` [B]; the rest [B, ROW]. `colour` and `shape`
    [B, 4, patches] and `cell` likewise are what each patch shows (IGNORE where there is none);
    `outline` [B, 4, patches, 49] uint8 says where in it a thing lies."""

    pixels: torch.Tensor
    ratio: torch.Tensor
    tiles: torch.Tensor
    tokens: torch.Tensor
    positions: torch.Tensor
    branches: torch.Tensor
    sees: torch.Tensor
    targets: torch.Tensor
    colour: torch.Tensor
    shape: torch.Tensor
    cell: torch.Tensor
    outline: torch.Tensor


@dataclass(frozen=True)
class View:
    """A finished picture as it is kept: `tiles` uint8 [used, 3, S, S], and what is true of it."""

    tiles: torch.Tensor
    ratio: int
    subject: Scene | Photo
    patches: tuple[np.ndarray, np.ndarray, np.ndarray]
    outline: np.ndarray


def picture(
    rng: Random, held: bool | None = False
) -> tuple[Image.Image, Image.Image | None, Scene | Photo]:
    if rng.random() < 0.14:
        image, photo = photos.sample(rng)
        return through_jpeg(rng, image), None, photo
    scene = scenes.sample(rng, held)
    image, where = scenes.draw(scene)
    return through_jpeg(rng, image), where, scene


def through_jpeg(rng: Random, image: Image.Image) -> Image.Image:
    if rng.random() < 0.75:
        return image
    file = io.BytesIO()
    image.save(file, "JPEG", quality=rng.randint(40, 95))
    return Image.open(file).convert("RGB")


def labels(
    image: Image.Image,
    where: Image.Image | None,
    subject: Scene | Photo,
    config: VisionConfig,
    ratio: int,
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """(colour, shape, cell) of every patch, [max_num_tiles, patches] each, and its outline."""
    size, patch = config.image_size, config.patch_size
    side = size // patch
    rows, columns = config.supported_aspect_ratios[ratio - 1]
    out = np.full((3, config.max_num_tiles, side * side), IGNORE, np.int8)
    outline = np.zeros((config.max_num_tiles, side * side, 49), np.uint8)
    if where is None:
        return (out[0], out[1], out[2]), outline
    assert isinstance(subject, Scene)
    height, width = fit_canvas(image.height, image.width, rows * size, columns * size, size)
    inside = np.full((rows * size, columns * size), 255, np.uint8)
    inside[:height, :width] = np.asarray(where.resize((width, height), Image.Resampling.NEAREST))
    patches = inside.reshape(rows, side, patch, columns, side, patch).transpose(0, 3, 1, 4, 2, 5)
    patches = patches.reshape(rows * columns, side * side, patch * patch)
    things = subject.things
    shares = np.stack([(patches == i).mean(-1) for i in range(len(things) + 1)], -1)
    seen = (patches != 255).mean(-1)
    best = shares[..., 1:].argmax(-1) if things else np.zeros(shares.shape[:2], int)
    covered = shares[..., 1:].max(-1) > 0.12 if things else np.zeros(shares.shape[:2], bool)
    colours = np.array([PATCH_COLOURS.index(t.colour) for t in things] + [0])
    shapes = np.array([1 + SHAPES.index(t.shape) for t in things] + [0])
    cells = np.array([t.row * 3 + t.column for t in things] + [0])
    ground = PATCH_COLOURS.index(subject.background)
    used = slice(0, rows * columns)
    out[0, used] = np.where(covered, colours[best], np.where(seen > 0.3, ground, IGNORE))
    out[1, used] = np.where(covered, shapes[best], 0)
    out[2, used] = np.where(covered, cells[best], IGNORE)
    fine = patches.reshape(rows * columns, side * side, 7, patch // 7, 7, patch // 7)
    outline[used] = (((fine > 0) & (fine < 255)).mean((3, 5)) > 0.5).reshape(
        rows * columns, side * side, 49
    )
    return (out[0], out[1], out[2]), outline


class Maker:
    """Makes batches, the same ones for the same seed."""

    def __init__(
        self,
        words: Words,
        config: VisionConfig,
        describe: float = 0.22,
        fresh: float = 0.35,
        pool_size: int = 16_000,
    ) -> None:
        self.words, self.config, self.describe = words, config, describe
        self.image = words.vocab_size
        self.fresh, self.pool_size = fresh, pool_size
        self.pool: list[View] = []

    def row(self, rng: Random, subject: Scene | Photo) -> Row:
        words, row = self.words, Row()
        eot = words.special("eot_id")
        system = rng.choice(wordings.SYSTEMS) if rng.random() < 0.62 else ""
        form = rng.random()
        images_first = form < 0.9
        no_image = form > 0.97
        if no_image:
            date = f"{rng.randint(1, 31):02d} {rng.choice(MONTHS)} {rng.randint(2024, 2028)}"
            system = f"Cutting Knowledge Date: December 2023\nToday Date: {date}\n\n{system}"
        prefix = words.prefix(system)
        user = words.header("user")
        if images_first:
            prefix += [*user, self.image]
        seen = row.add(prefix, [False] * len(prefix), 0, 0, self.image, False)
        branch = misses = 0
        while misses < 2:
            ids: list[int] = []
            wanted: list[bool] = []
            for turn in range(2 if rng.random() < 0.15 else 1):
                if no_image:
                    asked, answer = (
                        rng.choice(wordings.GREETINGS + wordings.DESCRIBE),
                        talk.NO_IMAGE,
                    )
                elif (branch == 0 and turn == 0) or rng.random() < self.describe:
                    asked, answer = rng.choice(wordings.DESCRIBE), talk.describe(subject)
                else:
                    _, asked, answer = talk.question(subject, rng)
                if turn or not images_first:
                    ids += user
                ids += words.encode(asked)
                if not turn and not images_first and not no_image:
                    ids += [self.image]
                ids += [eot, *words.header("assistant")]
                wanted += [False] * (len(ids) - len(wanted))
                ids += [*words.encode(answer), eot]
                wanted += [True] * (len(ids) - len(wanted))
            if len(row.tokens) + len(ids) > ROW:
                misses += 1
                continue
            branch += 1
            row.add(ids, wanted, branch, len(prefix), self.image, seen)
        spare = ROW - len(row.tokens)
        row.tokens += [eot] * spare
        row.positions += [0] * spare
        row.branches += [-1] * spare
        row.sees += [False] * spare
        row.targets += [IGNORE] * spare
        return row

    def view(self, rng: Random) -> View:
        """A new picture, or one seen before: drawing costs more than asking something new of it."""
        if len(self.pool) >= 512 and rng.random() > self.fresh:
            return rng.choice(self.pool)
        image, where, subject = picture(rng)
        prepared = tile_image(image, self.config)
        used = prepared.pixels[: prepared.num_tiles] * STDS + MEANS
        patches, outline = labels(image, where, subject, self.config, prepared.aspect_ratio_id)
        made = View(
            (used * 255).round().byte(), prepared.aspect_ratio_id, subject, patches, outline
        )
        if len(self.pool) < self.pool_size:
            self.pool.append(made)
        else:
            self.pool[rng.randrange(self.pool_size)] = made
        return made

    def batch(self, seed: int, size: int, talk_too: bool = True) -> Batch:
        rng = Random(seed)
        views = [self.view(rng) for _ in range(size)]
        rows = [self.row(rng, view.subject) if talk_too else Row() for view in views]
        side = self.config.image_size
        pixels = torch.zeros(size, self.config.max_num_tiles, 3, side, side)
        for index, view in enumerate(views):
            pixels[index, : len(view.tiles)] = (view.tiles.float() / 255 - MEANS) / STDS
        colour, shape, cell = (
            torch.from_numpy(np.stack([view.patches[kind] for view in views])).long()
            for kind in range(3)
        )

        def gather(name: str) -> torch.Tensor:
            return torch.tensor([getattr(row, name) for row in rows])

        return Batch(
            pixels,
            torch.tensor([view.ratio for view in views]),
            torch.tensor([len(view.tiles) for view in views]),
            *map(gather, ("tokens", "positions", "branches", "sees", "targets")),
            colour,
            shape,
            cell,
            torch.from_numpy(np.stack([view.outline for view in views])),
        )
