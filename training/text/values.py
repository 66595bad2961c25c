"""Fills the slots of a template: names by `names.draw`, values (numbers, dates, words) at random."""
# ruff: noqa: E501

import re
from random import Random

from training.text import kinds as k
from training.text.names import draw

_SLOT = re.compile(r"\{([a-z_]+)(\d?)\}")
_NAME_KINDS = {"city", "country", "person", "company", "team", "work", "place", "thing"}


def number(rng: Random, low: int = 1, high: int = 999) -> str:
    """Short numbers are as frequent as long ones."""
    digits = rng.randint(len(str(low)), len(str(high)))
    return str(max(low, min(high, rng.randint(10 ** (digits - 1), 10**digits - 1))))


_VALUES = {
    "n": lambda r: number(r, 2, 999),
    "d": lambda r: str(r.randint(0, 9)),
    "dec": lambda r: f"{r.randint(0, 99)}.{r.randint(1, 99)}",
    "big": lambda r: f"{r.randint(1, 999)},{r.randint(0, 999):03d}" if r.random() < 0.6 else f"{r.randint(1, 99)} million" if r.random() < 0.5 else number(r, 100, 99999),
    "year": lambda r: str(r.randint(1500, 2028)),
    "day": lambda r: str(r.randint(1, 28)),
    "month": lambda r: r.choice(k.MONTHS),
    "weekday": lambda r: r.choice(k.WEEKDAYS),
    "h": lambda r: f"{r.randint(0, 23):02d}:{r.choice(['00', '15', '30', '45'])}" if r.random() < 0.6 else f"{r.randint(1, 12)} {r.choice(['am', 'pm'])}",
    "sky": lambda r: r.choice(k.SKY),
    "span": lambda r: r.choice(k.SPANS),
    "currency": lambda r: r.choice(k.CURRENCY),
    "code": lambda r: r.choice(k.CODES),
    "noun": lambda r: r.choice(k.NOUNS),
    "job": lambda r: r.choice(k.JOBS),
    "cup": lambda r: r.choice(k.CUPS),
    "prep": lambda r: r.choice(["in", "for", "near", "at", "with", "by"]),
    "place_word": lambda r: r.choice(k.PLACE_WORD),
    "event": lambda r: r.choice(k.EVENTS),
}  # fmt: skip


class Scene:
    """One consistent filling: a slot keeps its value wherever it appears again."""

    def __init__(self, rng: Random, held: bool = False):
        self.rng, self.held = rng, held
        self.values: dict[str, str] = {}
        self.lower = rng.random() < 0.04  # some people never press shift

    def __call__(self, template: str) -> str:
        return _SLOT.sub(lambda m: self.value(m[1], m[2]), template)

    def value(self, kind: str, index: str = "") -> str:
        key = kind + index
        if key not in self.values:
            taken = set(self.values.values())
            for _ in range(20):
                value = (
                    draw(kind, self.rng, self.held)
                    if kind in _NAME_KINDS
                    else _VALUES[kind](self.rng)
                )
                if value not in taken:
                    break
            if self.lower and kind in _NAME_KINDS:
                value = value.lower()
            self.values[key] = value
        return self.values[key]

    def fork(self, *forget: str) -> "Scene":
        """The same scene without some slots: a second entity of the same kind."""
        other = Scene(self.rng, self.held)
        other.values = {
            key: v for key, v in self.values.items() if key.rstrip("0123456789") not in forget
        }
        return other
