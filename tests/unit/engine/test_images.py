"""The store of encoded images keeps what is held, and the rest while there is room."""

from __future__ import annotations

from puna.engine.images import ImageStore
from tests.unit.engine.toy import ToyImage


def test_what_nobody_holds_goes_first_the_least_recently_used_before_others() -> None:
    store = ImageStore[str](capacity=3, bytes_per_tile=1)
    a, b, c, d = (ToyImage(i) for i in range(4))
    for image in (a, b, c):
        assert store.make_room(image)
        store.put(image, f"encoded {image.content}")
    assert store.hold(a)
    assert store.hold(b)
    store.release(b)  # used later than c
    assert store.make_room(d)
    assert not store.hold(c)
    assert store.hold(b)
    assert store.get(a) == "encoded 0"


def test_held_images_are_never_dropped_and_a_vain_attempt_drops_nothing() -> None:
    store = ImageStore[str](capacity=4, bytes_per_tile=1)
    held, unheld = ToyImage(1, num_tiles=3), ToyImage(2)
    for image in (held, unheld):
        store.put(image, "x")
    assert store.hold(held)
    assert not store.make_room(ToyImage(3, num_tiles=2))
    assert store.hold(unheld)
    assert store.used == 4
