"""No page lost, none twice, and reuse by content alone."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from puna.engine.pages import PagePool
from tests.unit.engine.toy import check_pool


def key(*path: int) -> bytes:
    return bytes(path)


def test_pages_can_be_had_until_all_are_held_and_again_when_released() -> None:
    pool = PagePool(3, 16)
    pages = [pool.allocate() for _ in range(4)]
    assert sorted(page for page in pages if page is not None) == [0, 1, 2]
    assert pages[3] is None
    pool.release([1])
    assert pool.allocate() == 1


def test_a_published_page_is_found_after_its_holder_left_and_held_again() -> None:
    pool = PagePool(2, 16)
    page = pool.allocate()
    assert page is not None
    pool.publish(page, key(1))
    pool.release([page])
    assert pool.held == 0
    assert pool.match([key(1), key(1, 2)]) == [page]
    pool.hold([page])
    assert pool.available == 1


def test_a_match_ends_at_the_first_unknown_page() -> None:
    pool = PagePool(4, 16)
    for path in [(1,), (1, 2, 3)]:
        page = pool.allocate()
        assert page is not None
        pool.publish(page, key(*path))
    assert len(pool.match([key(1), key(1, 2), key(1, 2, 3)])) == 1


def test_the_least_recently_released_goes_first_and_ends_before_beginnings() -> None:
    pool = PagePool(4, 16)
    chains = {}
    for name in (1, 2):
        chain = [pool.allocate(), pool.allocate()]
        pool.publish(chain[0], key(name))  # pyright: ignore
        pool.publish(chain[1], key(name, 0))  # pyright: ignore
        chains[name] = chain
    pool.release(chains[1])
    pool.release(chains[2])
    pool.hold(chains[1])
    pool.release(chains[1])
    assert [pool.allocate() for _ in range(4)] == [*chains[2][::-1], *chains[1][::-1]]


def test_two_pages_of_equal_content_keep_the_first_and_free_the_second() -> None:
    pool = PagePool(2, 16)
    first, second = pool.allocate(), pool.allocate()
    assert first is not None
    assert second is not None
    pool.publish(first, key(1))
    pool.publish(second, key(1))
    assert pool.match([key(1)]) == [first]
    pool.release([second])
    check_pool(pool)
    assert pool.allocate() == second


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["start", "grow", "end"]), st.integers(0, 5), st.integers(0, 2)),
        max_size=60,
    ),
    st.integers(1, 8),
)
def test_whatever_happens_every_page_is_in_one_state_and_content_matches_its_key(
    events: list[tuple[str, int, int]], num_pages: int
) -> None:
    pool = PagePool(num_pages, 16)
    content: dict[int, bytes] = {}  # what a page really holds
    chains: dict[int, tuple[bytes, list[int]]] = {}
    for what, who, step in events:
        if what == "start" and who not in chains:
            path = bytes([step, 0, step])
            found = pool.match([path[: i + 1] for i in range(3)])
            assert [content[page] for page in found] == [path[: i + 1] for i in range(len(found))]
            pool.hold(found)
            chains[who] = (path[: len(found)], found)
        elif what == "grow" and who in chains:
            path, pages = chains[who]
            page = pool.allocate()
            if page is None:
                assert pool.held == num_pages
                continue
            assert all(page not in other for _, other in chains.values())
            path += bytes([step])
            content[page] = path
            pool.publish(page, path)
            chains[who] = (path, [*pages, page])
        elif what == "end" and who in chains:
            pool.release(chains.pop(who)[1])
        check_pool(pool)
        assert pool.held == len({page for _, pages in chains.values() for page in pages})
