"""The pictures and the talk that cria-vision learns from: true, held apart, as Puna has them."""

from __future__ import annotations

from datetime import date
from random import Random

import numpy as np
import pytest

from puna.chat import ChatRequest, Image, message
from puna.llama.prompt import render_prompt
from puna.llama.tokenizer import Tokenizer
from training.vision import photos, scenes, talk, wordings
from training.vision.data import IGNORE, ROW, Maker, Words
from training.vision.evaluate import match_groups, parse
from training.vision.model import VISION
from training.vision.photos import NAMES, PALETTE
from training.vision.scenes import BACKGROUNDS, COLOURS, SHAPES, Scene, held_out
from training.vision.train import TOKENIZER, Head

WORDS = Words(TOKENIZER)


def some_scenes(count: int, held: bool | None = None) -> list[Scene]:
    rng = Random(5)
    return [scenes.sample(rng, held) for _ in range(count)]


def test_held_out_pairs_never_occur_in_training_and_always_in_their_own_scenes() -> None:
    assert 5 <= sum(held_out(c, s) for c in COLOURS for s in SHAPES) <= 20

    def special(scene: Scene) -> bool:
        return any(held_out(thing.colour, thing.shape) for thing in scene.things)

    assert not any(special(scene) for scene in some_scenes(300, held=False))
    assert all(special(scene) for scene in some_scenes(300, held=True) if scene.things)


def test_held_out_wordings_are_not_among_those_that_training_shows() -> None:
    for name, held in vars(wordings).items():
        if name.startswith("HELD_"):
            shown = vars(wordings)[name.removeprefix("HELD_")]
            assert not {line.lower() for line in held} & {line.lower() for line in shown}, name


def test_every_thing_is_drawn_and_lies_where_its_description_says() -> None:
    for scene in some_scenes(60):
        _, where = scenes.draw(scene)
        drawn = np.asarray(where)
        for index, thing in enumerate(scene.things, start=1):
            y, x = np.nonzero(drawn == index)
            assert len(y) > 20, (scene, thing)
            assert int(y.mean() / scene.height * 3) == thing.row
            assert int(x.mean() / scene.width * 3) == thing.column


def test_a_description_says_everything_and_scoring_finds_what_is_wrong() -> None:
    for scene in some_scenes(200):
        groups, background = parse(talk.describe(scene))
        assert background == scene.background
        assert [(shape, colour) for _, colour, shape, _ in groups] == [
            (group.shape, group.colour) for group in scene.groups
        ]
        assert match_groups(groups, groups[::-1]).total() == 4 * len(groups)
        if len(groups) > 1:
            assert match_groups(groups, groups[1:]).total() < 4 * len(groups)


@pytest.mark.parametrize("name", NAMES)
def test_colours_of_photos_have_the_names_that_their_palette_gives_them(name: str) -> None:
    assert NAMES[int(photos.names_of(np.array(PALETTE[name], np.uint8)))] == name


def test_plain_backgrounds_have_the_names_that_photos_would_give_them() -> None:
    for name, colour in BACKGROUNDS.items():
        assert NAMES[int(photos.names_of(np.array(colour, np.uint8)))] == name


def test_training_prompts_are_those_that_puna_renders() -> None:
    tokenizer = Tokenizer.from_file(TOKENIZER)
    picture = Image(b"")
    for system, asked in [
        (wordings.LESSON_SYSTEM, wordings.LESSON_QUESTION),
        ("", "What is this?"),
    ]:
        before = [message("system", system)] if system else []
        request = ChatRequest((*before, message("user", picture, asked)))
        rendered = render_prompt(request, tokenizer, "vision", today=date(2026, 11, 23))
        prefix = [*WORDS.prefix(system), *WORDS.header("user"), WORDS.vocab_size]
        end = [WORDS.special("eot_id"), *WORDS.header("assistant")]
        assert list(rendered.token_ids) == [*prefix, *WORDS.encode(asked), *end]


def test_a_text_only_prompt_is_the_one_that_puna_renders_too() -> None:
    tokenizer = Tokenizer.from_file(TOKENIZER)
    rendered = render_prompt(
        ChatRequest((message("user", "Hello"),)), tokenizer, "vision", today=date(2026, 11, 23)
    )
    system = "Cutting Knowledge Date: December 2023\nToday Date: 23 Nov 2026\n\n"
    start = [WORDS.special("begin_of_text"), *WORDS.header("system")]
    assert list(rendered.token_ids[: len(start)]) == start
    assert WORDS.decode(list(rendered.token_ids)).startswith("system\n\n" + system)


def test_rows_are_full_length_and_teach_whole_answers_alone() -> None:
    maker = Maker(WORDS, VISION)
    batch = maker.batch(7, 6)
    eot = WORDS.special("eot_id")
    assert batch.tokens.shape == (6, ROW)
    for row in range(6):
        taught = batch.targets[row] != IGNORE
        assert taught.sum() > 20
        after = batch.tokens[row].roll(-1)
        assert (batch.targets[row][taught] == after[taught]).all()
        assert (batch.targets[row][taught] == eot).sum() >= batch.branches[row].max()


def test_the_small_head_holds_every_word_of_every_answer() -> None:
    head, rng = Head(WORDS), Random(11)
    for _ in range(300):
        scene = scenes.sample(rng, None)
        for text in (talk.describe(scene), talk.question(scene, rng)[2]):
            assert all(head.place[token] >= 0 for token in WORDS.encode(text)), text
