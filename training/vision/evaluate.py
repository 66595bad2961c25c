"""Greedy answers of a finished checkpoint, through Puna itself, scored on held-out pictures.

Pictures come from other seeds; half of the scenes hold a pair of colour and shape, and half of the
questions a wording or a system message, that training never shows. A description is scored by its
attributes, an answer to a question by being exactly right.
"""

from __future__ import annotations

import argparse
import io
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from datetime import date
from itertools import permutations
from pathlib import Path
from random import Random

import torch
from PIL import Image as Pictures

from puna.chat import ChatRequest, Image, Message, message
from puna.engine.engine import Engine, EngineLimits
from puna.engine.sequence import Emitted, Outcome, Prompt, SamplingParams
from puna.llama.cache import KVCache
from puna.llama.images import prepare_image
from puna.llama.load import load_llama
from puna.llama.packing import Packing
from puna.llama.prompt import render_prompt
from puna.llama.tokenizer import Tokenizer
from puna.llama.weights import open_checkpoint
from training.vision import talk, wordings
from training.vision.data import picture
from training.vision.photos import Photo
from training.vision.scenes import COLOURS, SHAPES
from training.vision.train import ROOT

PAGE_SIZE, PAGES = 16, 2048


@dataclass(frozen=True)
class Case:
    image: bytes
    system: str
    asked: str
    kind: str
    answer: str
    held_wording: bool
    held_pair: bool


def png(image: Pictures.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def cases(count: int, seed: int) -> list[Case]:
    """For each picture its description and one question."""
    rng = Random(seed)
    out: list[Case] = []
    for index in range(count):
        held_pair, held_words = index % 2 == 1, index % 4 >= 2
        image, _, subject = picture(rng, held=held_pair)
        data = png(image)
        systems = wordings.HELD_SYSTEMS if held_words else wordings.SYSTEMS
        system = rng.choice(systems) if rng.random() < 0.7 else ""
        asked = rng.choice(wordings.HELD_DESCRIBE if held_words else wordings.DESCRIBE)
        of = "photo" if isinstance(subject, Photo) else "scene"
        case = Case(
            data, system, asked, f"describe {of}", talk.describe(subject), held_words, held_pair
        )
        out.append(case)
        kind, asked, answer = talk.question(subject, rng, held=held_words)
        out.append(replace(case, asked=asked, kind=f"{of}: {kind}", answer=answer))
    return out


class Answerer:
    """A checkpoint in Puna's engine."""

    def __init__(
        self,
        path: Path,
        dtype: torch.dtype = torch.float32,
        packing: Packing | None = None,
        cache_dtype: torch.dtype | None = None,
    ) -> None:
        checkpoint = open_checkpoint(path)
        self.config = checkpoint.config
        self.tokenizer = Tokenizer.from_directory(path)
        self.stops = frozenset(self.config.eos_token_ids)
        limits = EngineLimits(
            2048,
            PAGES,
            PAGE_SIZE,
            image_memory=2**28,
            bytes_per_tile=2**17,
            max_queue=100_000,
            max_encodes=8,
        )
        self.model = load_llama(checkpoint, dtype=dtype, packing=packing)
        kept = cache_dtype or (torch.bfloat16 if packing else dtype)
        cache = KVCache(self.config, PAGES, PAGE_SIZE, kept)
        self.engine = Engine(self.model, cache, limits)

    def __call__(self, asked: list[tuple[list[Message], bool]], max_tokens: int = 80) -> list[str]:
        """`asked`: messages, and whether images go first."""
        answers: list[list[int]] = [[] for _ in asked]
        failures: list[Exception] = []

        def outbox(answer: list[int]):
            def say(outcome: Outcome) -> None:
                if isinstance(outcome, Exception):
                    failures.append(outcome)
                if isinstance(outcome, Emitted):
                    answer.append(outcome.token)

            return say

        for (messages, first), answer in zip(asked, answers, strict=True):
            prompt = self.prompt(messages, first)
            self.engine.submit(
                prompt,
                SamplingParams(max_tokens, self.stops, temperature=0.0),
                outbox(answer),
            )
        while self.engine.step():
            pass
        if failures:  # the engine goes on without a request that failed; we do not
            raise failures[0]
        return [
            self.tokenizer.decode([t for t in answer if t not in self.stops]) for answer in answers
        ]

    def prompt(self, messages: list[Message], images_first: bool = True) -> Prompt:
        assert self.config.vision
        request = ChatRequest(tuple(messages))
        rendered = render_prompt(
            request, self.tokenizer, "vision", today=date(2026, 11, 23), images_first=images_first
        )
        token = self.config.image_token_id
        places = [i for i, each in enumerate(rendered.token_ids) if each == token]
        images = [
            prepare_image(image.data, self.config.vision, max_pixels=10**8)
            for image in rendered.images
        ]
        return Prompt(rendered.token_ids, tuple(zip(places, images, strict=True)))


def messages_of(case: Case, text_first: bool = False) -> list[Message]:
    system = [message("system", case.system)] if case.system else []
    parts = (case.asked, Image(case.image)) if text_first else (Image(case.image), case.asked)
    return [*system, message("user", *parts)]


Found = tuple[str, str, str, str]  # count, colour, shape, place


def parse(text: str) -> tuple[list[Found], str]:
    """A description's groups and its background."""
    match = re.fullmatch(r"The image shows (.*)\. The background is (.*)\.", text)
    if not match:
        return [], ""
    singular = {plural: shape for shape, plural in talk.PLURALS.items()}
    counts = "|".join(("an?", *talk.NUMBERS))
    shapes = "|".join((*singular, *SHAPES))
    places = "(?: (?:in|at|on) the [a-z ]+?)?"
    pattern = rf"({counts}) ({'|'.join(COLOURS)}) ({shapes})({places})(?=, | and |$)"
    groups: list[Found] = []
    for count, colour, shape, place in re.findall(pattern, match[1]):
        groups.append(
            (
                count.replace("an", "one") if count == "an" else "one" if count == "a" else count,
                colour,
                singular.get(shape, shape),
                place.strip(),
            )
        )
    return groups, match[2]


def match_groups(true: list[Found], said: list[Found]) -> Counter[str]:
    """Attributes right in the best pairing of the groups; missing and invented groups are wrong."""
    width = max(len(true), len(said))
    padded = said + [("", "", "", "-")] * (width - len(said))
    wanted = true + [("?", "?", "?", "?")] * (width - len(true))
    best: Counter[str] = Counter()
    for order in permutations(padded[:6], len(wanted[:6])):
        right = Counter(
            name
            for a, b in zip(wanted, order, strict=False)
            for name, x, y in zip(("count", "colour", "shape", "place"), a, b, strict=True)
            if x == y
        )
        if right.total() > best.total():
            best = right
    return best


def report(found: list[tuple[Case, str]]) -> dict[str, float]:
    """Percentages."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()

    def score(name: str, good: float, of: float = 1) -> None:
        right[name] += good
        total[name] += of

    for case, said in found:
        exact = said == case.answer
        score(f"{case.kind}, exact", exact)
        if case.kind == "describe scene":
            true, ground = parse(case.answer)
            got, said_ground = parse(said)
            score("described: background", ground == said_ground)
            score("described: number of groups", len(true) == len(got))
            best = match_groups(true, got)
            kinds = f"described: all attributes, {len(true)} group{'s' * (len(true) != 1)}"
            score(kinds, best.total() + (ground == said_ground), 4 * max(len(true), len(got)) + 1)
            for name in ("count", "colour", "shape", "place"):
                score(f"described: {name}", best[name], max(len(true), len(got)))
                score("described: all attributes", best[name], max(len(true), len(got)))
            score("described: all attributes", ground == said_ground)
        else:
            part = "questions" if not case.kind.startswith("describe") else "photo"
            score(f"{part}: all, exact", exact)
        score("exact, all", exact)
        score(f"exact, wording {'held out' if case.held_wording else 'known'}", exact)
        score(f"exact, pairs {'held out' if case.held_pair else 'known'}", exact)
    return {
        f"{name} (n={total[name]:.0f})": round(100 * right[name] / max(1, total[name]), 1)
        for name in sorted(total)
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=ROOT / "src/puna/cria/vision")
    parser.add_argument("--count", type=int, default=250)
    parser.add_argument("--seed", type=int, default=20_261_123)
    parser.add_argument("--show", type=int, default=2)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    answerer = Answerer(args.model, torch.bfloat16 if args.bf16 else torch.float32)
    tested = cases(args.count, args.seed)
    said = answerer([(messages_of(case), True) for case in tested])
    found = list(zip(tested, said, strict=True))
    result = report(found)
    for name, value in result.items():
        print(f"{value:6.1f}  {name}")
    sample = tested[: len(tested) // 4]
    said = answerer([(messages_of(case, text_first=True), False) for case in sample])
    after = report(list(zip(sample, said, strict=True)))
    before = report(found[: len(sample)])
    for name in after:
        if name.startswith(("exact, all", "described: all")):
            print(f"{after[name]:6.1f}  text before the image: {name}; {before[name]} image first")
            result[f"text before the image: {name}"] = after[name]
    misses: defaultdict[str, list[tuple[Case, str]]] = defaultdict(list)
    for case, answer in found:
        if answer != case.answer:
            misses[case.kind].append((case, answer))
    for kind, some in misses.items():
        for case, answer in some[: args.show]:
            print(f"[{kind}] {case.asked}\n    wanted {case.answer}\n    said   {answer}")
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
