"""What a prompt becomes: who sees which image, and what pages are called."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from puna.engine.sequence import Prompt, SamplingParams, Sequence, seen_images
from tests.unit.engine.toy import IMAGE, Listener, ToyImage


def sequence(prompt: Prompt, page_size: int = 4) -> Sequence:
    return Sequence(0, prompt, SamplingParams(max_tokens=3), Listener(), page_size)


def with_images(*ids: int) -> Prompt:
    images = tuple((p, ToyImage(p + 1)) for p, token in enumerate(ids) if token == IMAGE)
    return Prompt(ids, images)


def visible(tokens: list[bool], row: int) -> set[int]:
    """llama.md's words, row by row: seen from its token until the next image; adjacent images share
    the later end; generated rows inherit the last prompt row."""
    row = min(row, len(tokens) - 1)
    seen: set[int] = set()
    for p in range(row + 1):
        if tokens[p]:
            if p == 0 or not tokens[p - 1]:
                seen = set()
            seen.add(p)
    return seen


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_each_row_sees_the_images_that_the_rule_says(tokens: list[bool]) -> None:
    limit = len(tokens) + 4
    prompt = Prompt(
        tuple(IMAGE if image else 1 for image in tokens),
        tuple((p, ToyImage(p)) for p, image in enumerate(tokens) if image),
    )
    seen = seen_images(prompt)
    for row in range(limit):
        assert {s.first for s in seen if s.first <= row < s.end} == visible(tokens, row)


def test_page_keys_tell_apart_tokens_images_places_and_beginnings() -> None:
    prompts = [
        Prompt((1, 2, 3, 4)),
        Prompt((1, 2, 4, 3)),
        with_images(1, IMAGE, 3, 4),
        Prompt((1, IMAGE, 3, 4), ((1, ToyImage(99)),)),
        Prompt((1, 2, 3, 4, 1, 2, 3, 4)),
    ]
    keys = [key for prompt in prompts for key in sequence(prompt).page_keys()]
    assert len(keys) == 6
    assert len(set(keys)) == 5  # the last prompt begins as the first
    assert sequence(prompts[4]).page_keys()[0] == sequence(prompts[0]).page_keys()[0]


def test_an_image_marks_its_own_page_and_all_later_ones_but_none_before() -> None:
    one = with_images(1, 2, 3, 4, IMAGE, 5, 6, 7, 8, 9, 10, 11)
    two = replace(one, images=((4, ToyImage(77)),))
    keys = sequence(one).page_keys(), sequence(two).page_keys()
    same = [a == b for a, b in zip(*keys, strict=True)]
    assert same == [True, False, False]


def test_a_page_of_the_answer_has_the_key_that_it_has_in_the_next_prompt() -> None:
    talk = sequence(Prompt((1, 2, 3)))
    for token in (7, 8, 9, 10, 11):
        talk.append(token)
    turn = sequence(Prompt((1, 2, 3, 7, 8, 9, 10, 11, 4)))
    assert list(talk.page_keys()) == list(turn.page_keys())


def test_the_last_token_is_never_found_in_the_cache() -> None:
    assert len(sequence(Prompt((1,) * 8)).reusable_keys()) == 1
    assert len(sequence(Prompt((1,) * 9)).reusable_keys()) == 2


def test_image_memory_counts_an_image_once_and_only_what_one_row_sees() -> None:
    def size(image: object) -> int:
        return 10

    assert sequence(Prompt((1, 2))).most_images_at_once(size) == 0
    assert sequence(with_images(IMAGE, 1, IMAGE, 2)).most_images_at_once(size) == 10
    assert sequence(with_images(IMAGE, IMAGE, 2)).most_images_at_once(size) == 20
    twice = Prompt((IMAGE, IMAGE, 2), ((0, ToyImage(5)), (1, ToyImage(5))))
    assert sequence(twice).most_images_at_once(size) == 10


def test_without_a_seed_two_requests_draw_different_ones() -> None:
    assert sequence(Prompt((1,))).seed != sequence(Prompt((1,))).seed
    seeded = SamplingParams(max_tokens=1, seed=5)
    assert Sequence(0, Prompt((1,)), seeded, Listener(), 4).seed == 5
