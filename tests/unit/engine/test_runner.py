"""How a plan becomes a batch: which rows are exact, and where each one's logits are."""

from __future__ import annotations

from array import array

import torch
from hypothesis import given
from hypothesis import strategies as st

from puna.engine.runner import Part, ragged
from puna.llama.batch import ImageView

CPU = torch.device("cpu")


@st.composite
def parts(draw: st.DrawFn) -> list[Part]:
    """Each with tokens and pages of its own, so that every row says whose it is and where."""
    made: list[Part] = []
    for number in range(draw(st.integers(1, 6))):
        context, rows = draw(st.integers(0, 9)), draw(st.integers(1, 9))
        made.append(
            Part(
                [100 * number + context + row for row in range(rows)],
                context,
                array("q", [number] * 5),
                prompt=draw(st.integers(1, 20)),
                logits=draw(st.integers(0, rows)),
                images=(ImageView((), number, number + 1),),
            )
        )
    return made


@given(parts())
def test_exact_rows_are_the_first_and_those_behind_a_prompt_and_no_span_mixes_kinds(
    some: list[Part],
) -> None:
    batch = ragged(some, CPU)
    rows = sorted(batch.token_ids.tolist())
    assert rows == sorted(token for part in some for token in part.token_ids)
    end = 0
    for span in batch.spans:
        assert span.start == end
        end += span.length
        assert end <= batch.exact or span.start >= batch.exact
        number = int(span.pages[0])
        generated = span.context >= some[number].prompt
        assert generated == (span.start < batch.exact)
        assert generated or span.context + span.length <= some[number].prompt
        here = list(range(span.context, span.context + span.length))
        assert batch.positions[span.start : end].tolist() == here
        assert batch.token_ids[span.start : end].tolist() == [100 * number + p for p in here]
        assert span.images == some[number].images
    assert end == len(batch.token_ids)


@given(parts())
def test_logits_come_back_in_the_order_of_the_plan(some: list[Part]) -> None:
    batch = ragged(some, CPU)
    wanted = [
        token for part in some for token in part.token_ids[len(part.token_ids) - part.logits :]
    ]
    assert batch.token_ids[batch.logit_rows].tolist() == wanted


def test_what_a_preempted_sequence_had_said_is_a_span_of_its_own_before_its_prompt() -> None:
    batch = ragged(
        [Part(range(5), 0, array("q", [7]), prompt=5, logits=0),
         Part([10, 11, 12, 13], 2, array("q", [8]), prompt=5, logits=1),
         Part([20], 9, array("q", [9]), prompt=4, logits=1)],
        CPU,
    )  # fmt: skip
    assert [(s.start, s.length, s.context, int(s.pages[0])) for s in batch.spans] == [
        (0, 1, 5, 8), (1, 1, 9, 9), (2, 5, 0, 7), (7, 3, 2, 8),
    ]  # fmt: skip
    assert batch.token_ids.tolist() == [13, 20, 0, 1, 2, 3, 4, 10, 11, 12]
    assert batch.exact == 2
    assert batch.logit_rows.tolist() == [0, 1]
