"""What is said of a picture: descriptions, questions and their true answers, as plain text.

It knows scenes and photos, no pixels and no tokens. Answers have one form each, so that their
attributes can be scored word by word. `HELD_...` wordings are for the evaluation alone.
"""

from __future__ import annotations

from random import Random

from training.vision.photos import Photo
from training.vision.scenes import COLOURS, COLUMNS, ROWS, SHAPES, Group, Scene, Thing
from training.vision.wordings import (
    BACKGROUND,
    BAND,
    COLOUR,
    COUNT,
    COUNT_ALL,
    EXISTS,
    HELD_BACKGROUND,
    HELD_BAND,
    HELD_COLOUR,
    HELD_COUNT,
    HELD_COUNT_ALL,
    HELD_EXISTS,
    HELD_MAIN,
    HELD_PLACE,
    HELD_SHAPE,
    HELD_WHERE,
    MAIN,
    PLACE,
    SHAPE,
    WHERE,
)

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PLURALS = {shape: shape + ("es" if shape == "cross" else "s") for shape in SHAPES}

NO_IMAGE = "There is no image to look at. Please send one: I describe simple pictures."


def article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def noun(colour: str | None, shape: str, count: int = 1) -> str:
    name = shape if count == 1 else PLURALS[shape]
    return f"{colour} {name}" if colour else name


def cell(row: int, column: int) -> str:
    if (row, column) == (1, 1):
        return "in the centre"
    if column == 1:
        return f"at the {ROWS[row]}"
    if row == 1:
        return f"on the {COLUMNS[column]}"
    return f"at the {ROWS[row]} {COLUMNS[column]}"


def place(thing: Thing) -> str:
    return cell(thing.row, thing.column)


def whereabouts(group: Group) -> str:
    """The place of a whole group, where it has one."""
    if group.count == 1:
        return place(group.things[0])
    rows = {thing.row for thing in group.things}
    columns = {thing.column for thing in group.things}
    if len(rows) == 1 and rows != {1}:
        return cell(rows.pop(), 1)
    if len(columns) == 1 and columns != {1}:
        return cell(1, columns.pop())
    if len(rows) == 1 or len(columns) == 1:
        return "in the middle"
    return ""


def listing(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def counted(group: Group) -> str:
    if group.count == 1:
        return article(noun(group.colour, group.shape))
    return f"{NUMBERS[group.count]} {noun(group.colour, group.shape, group.count)}"


def describe(subject: Scene | Photo) -> str:
    if isinstance(subject, Photo):
        return f"The image looks like a photo. {bands(subject)}"
    shown = [f"{counted(group)} {whereabouts(group)}".strip() for group in subject.groups]
    return f"The image shows {listing(shown) if shown else 'no shapes'}. {background(subject)}"


def background(scene: Scene) -> str:
    return f"The background is {scene.background}."


def band_names(photo: Photo) -> tuple[str, str, str]:
    return ("top", "middle", "bottom") if photo.upright else ("left", "middle", "right")


def bands(photo: Photo) -> str:
    if photo.uniform:
        return f"It is mostly {photo.bands[0]}."
    names = band_names(photo)
    parts = [f"the {name} is {colour}" for name, colour in zip(names, photo.bands, strict=True)]
    return (listing(parts) + ".").replace("the", "The", 1)


def there_are(count: int, what_one: str, what_many: str) -> str:
    if count == 1:
        return f"There is one {what_one}."
    return f"There are {NUMBERS[count]} {what_many}."


def question(subject: Scene | Photo, rng: Random, held: bool = False) -> tuple[str, str, str]:
    """(kind, question, answer), true of the picture. `held`: in a wording that training lacks."""

    def wording(shown: list[str], kept: list[str], *what: str) -> str:
        return rng.choice(kept if held else shown).format(*what)

    if isinstance(subject, Photo):
        if rng.random() < 0.5:
            return "main colours", wording(MAIN, HELD_MAIN), bands(subject)
        index = rng.randrange(3)
        name = band_names(subject)[index]
        if not subject.upright or not subject.uniform or rng.random() < 0.5:
            answer = f"The {name} is {subject.bands[index]}."
            return "band", wording(BAND, HELD_BAND, name), answer
        return "main colours", wording(MAIN, HELD_MAIN), bands(subject)

    scene, things = subject, subject.things
    by_shape = {s: [t for t in things if t.shape == s] for s in SHAPES}
    by_colour = {c: [t for t in things if t.colour == c] for c in COLOURS}
    kinds = (
        "exists exists count count_shape count_colour background place where where colour colour"
    )
    kind = rng.choice(f"{kinds} shape shape main_colours".split()).replace("_", " ")
    if kind == "background" or not things:
        return "background", wording(BACKGROUND, HELD_BACKGROUND), background(scene)
    if kind == "main colours":
        names = list(dict.fromkeys(group.colour for group in scene.groups))
        start = "The shape is " if len(things) == 1 else "The shapes are "
        return kind, wording(MAIN, HELD_MAIN), f"{start}{listing(names)}. {background(scene)}"
    if kind == "count":
        return (
            "count",
            wording(COUNT_ALL, HELD_COUNT_ALL),
            there_are(len(things), "shape", "shapes"),
        )
    some = rng.choice(things)
    if kind == "count shape":
        shape = some.shape if rng.random() < 0.75 else rng.choice(SHAPES)
        count = len(by_shape[shape])
        return (
            "count",
            wording(COUNT, HELD_COUNT, PLURALS[shape]),
            there_are(count, shape, PLURALS[shape]),
        )
    if kind == "count colour":
        colour = some.colour if rng.random() < 0.75 else rng.choice(list(COLOURS))
        count = len(by_colour[colour])
        asked = wording(COUNT, HELD_COUNT, f"{colour} shapes")
        return "count", asked, there_are(count, f"{colour} shape", f"{colour} shapes")
    if kind == "exists":
        colour: str | None = some.colour
        shape = some.shape
        chance = rng.random()
        if chance < 0.2:
            colour = None
        elif chance < 0.55:
            colour = rng.choice([t.colour for t in things] + list(COLOURS))
        if 0.4 < chance < 0.75:
            shape = rng.choice([t.shape for t in things] + list(SHAPES))
        if chance < 0.1:
            shape = rng.choice(SHAPES)
        found = [t for t in by_shape[shape] if colour in (None, t.colour)]
        what = noun(colour, shape)
        asked = wording(EXISTS, HELD_EXISTS, article(what))
        if not found:
            return "yes or no", asked, f"No, there is no {what}."
        if len(found) == 1:
            return "yes or no", asked, f"Yes, there is {article(what)}."
        return (
            "yes or no",
            asked,
            f"Yes, there are {NUMBERS[len(found)]} {noun(colour, shape, len(found))}.",
        )
    if kind == "place":
        row, column = (
            (some.row, some.column) if rng.random() < 0.8 else (rng.randrange(3), rng.randrange(3))
        )
        there = [t for t in things if (t.row, t.column) == (row, column)]
        what = article(noun(there[0].colour, there[0].shape)) if there else "nothing"
        asked = wording(PLACE, HELD_PLACE, cell(row, column))
        return "what is there", asked, f"There is {what} {cell(row, column)}."
    group = rng.choice(scene.groups)
    if kind == "colour":
        shape = group.shape if rng.random() < 0.9 else rng.choice(SHAPES)
        seen = list(dict.fromkeys(t.colour for t in by_shape[shape]))
        asked = wording(COLOUR, HELD_COLOUR, shape)
        if not seen:
            return kind, asked, f"There is no {shape}."
        if len(by_shape[shape]) == 1:
            return kind, asked, f"The {shape} is {seen[0]}."
        return kind, asked, f"The {PLURALS[shape]} are {listing(seen)}."
    if kind == "shape":
        colour = group.colour if rng.random() < 0.9 else rng.choice(list(COLOURS))
        seen = list(dict.fromkeys(t.shape for t in by_colour[colour]))
        asked = wording(SHAPE, HELD_SHAPE, colour)
        if not seen:
            return kind, asked, f"There is no {colour} shape."
        groups = [g for g in scene.groups if g.colour == colour]
        if len(groups) == 1 and groups[0].count == 1:
            return kind, asked, f"The {colour} shape is {article(seen[0])}."
        shown = [
            article(g.shape) if g.count == 1 else f"{NUMBERS[g.count]} {PLURALS[g.shape]}"
            for g in groups
        ]
        return kind, asked, f"The {colour} shapes are {listing(shown)}."
    what = noun(group.colour, group.shape)
    if len(by_shape[group.shape]) == group.count and rng.random() < 0.5:
        what = group.shape
    asked = wording(WHERE, HELD_WHERE, what)
    if group.count == 1:
        return "where", asked, f"The {what} is {place(group.things[0])}."
    many = what.replace(group.shape, PLURALS[group.shape])
    spots = [place(t) for t in group.things]
    return "where", asked, f"The {many} are {listing(spots)}."
