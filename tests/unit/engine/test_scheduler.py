"""How rows are dealt: the policy's promises as bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from puna.engine.scheduler import deal

wants = st.lists(st.integers(1, 600), min_size=1, max_size=12)


@given(wants, st.integers(0, 500))
def test_who_wants_one_row_gets_it_nobody_gets_too_much_and_no_row_is_wasted(
    wanted: list[int], rows: int
) -> None:
    dealt = deal(wanted, rows)
    assert all(0 <= got <= want for got, want in zip(dealt, wanted, strict=True))
    assert all(got for got, want in zip(dealt, wanted, strict=True) if want == 1)
    assert sum(dealt) == max(wanted.count(1), min(rows, sum(wanted)))


@given(wants, st.integers(0, 500))
def test_the_eldest_that_wants_more_gets_half_and_all_others_an_equal_share(
    wanted: list[int], rows: int
) -> None:
    dealt = deal(wanted, wanted.count(1) + rows)
    hungry = [i for i, want in enumerate(wanted) if want > 1]
    if not hungry:
        return
    eldest, *others = hungry
    assert dealt[eldest] >= min(wanted[eldest], -(-rows // 2))
    for i in others:
        assert dealt[i] >= min(wanted[i], rows // 2 // len(others))


def test_where_rows_do_not_suffice_the_shortest_prompts_get_them() -> None:
    assert deal([1, 90, 50, 70, 60, 80], 5) == [1, 2, 1, 0, 1, 0]


def test_who_generates_takes_one_row_and_leaves_the_rest_to_a_prompt() -> None:
    assert deal([1, 1, 1, 1000], 512) == [1, 1, 1, 509]


def test_a_short_prompt_is_done_at_once_behind_a_long_one() -> None:
    assert deal([100_000, 200], 512) == [312, 200]
