"""What a child sends is anyone's bytes: bounded, checked, and made safe to show."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.tools.code import child
from puna.tools.code.child import Frames, Kept, Ran, safe_name
from puna.tools.code.interpreter import written
from puna.tools.code.rungs import Limits

LIMITS = Limits(file_bytes=10_000, files=2)


def frame(kind: bytes, payload: bytes) -> bytes:
    return kind + len(payload).to_bytes(4, "big") + payload


def frames() -> Frames:
    made = Frames(LIMITS)
    made.expect()
    return made


@given(st.lists(st.integers(1, 9)))
def test_frames_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    sent = frame(b"F", b"\0\1aDATA") + frame(b"N", b"note") + frame(b"D", b"1")
    reader, found = frames(), []
    for cut in [*cuts, len(sent)]:
        found += reader.feed(sent[:cut])
        sent = sent[cut:]
    assert found == [("F", b"\0\1aDATA"), ("N", b"note"), ("D", b"1")]


@given(st.binary(max_size=400))
def test_no_bytes_make_more_of_them_than_was_sent(data: bytes) -> None:
    reader = frames()
    with contextlib.suppress(ValueError):
        assert sum(len(payload) for _, payload in reader.feed(data)) <= len(data)


@pytest.mark.parametrize(
    "sent",
    [
        b"X\0\0\0\0",
        b"F\xff\xff\xff\xff",
        b"\0" * 5,
        b"D" * 200_000,
    ],
)
def test_what_is_no_frame_is_refused_before_it_is_kept(sent: bytes) -> None:
    with pytest.raises(ValueError, match="it sent"):
        list(frames().feed(sent))


def test_more_than_agreed_is_refused() -> None:
    reader = frames()
    sent = frame(b"F", bytes(9_000)) * 100
    with pytest.raises(ValueError, match="more than was agreed"):
        list(reader.feed(sent))


@pytest.mark.parametrize("payload", [b"", b"\0", b"\xff\xff", b"\0\5ab"])
def test_a_file_that_lies_about_its_name_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="no file"):
        frames().file(payload)


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("plot.png", "plot.png"),
        ("out/table.csv", "out_table.csv"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("/etc/passwd", "_etc_passwd"),
        (".bashrc", "bashrc"),
        ("..", "file"),
        ("", "file"),
        ("a\nb\x1b[31m.txt", "a_b__31m.txt"),
        ("a<script>.svg", "a_script_.svg"),
        ("naïve 日本.txt", "naïve 日本.txt"),
        ("x" * 300 + ".png", "x" * 96 + ".png"),
        ("con\u202egnp.exe", "con_gnp.exe"),
    ],
)
def test_names_of_files_are_made_safe(wanted: str, name: str) -> None:
    assert safe_name(wanted, set()) == name


@given(st.lists(st.text(max_size=20), max_size=12))
def test_safe_names_are_never_hidden_never_paths_and_never_twice(wanted: list[str]) -> None:
    taken: set[str] = set()
    for one in wanted:
        name = safe_name(one, taken)
        assert name
        assert not name.startswith(".")
        assert "/" not in name
        assert "\0" not in name
        assert name.casefold() not in {other.casefold() for other in taken}
        taken.add(name)


@given(st.lists(st.binary(max_size=60)), st.integers(8, 100))
def test_of_long_output_the_first_and_the_last_part_is_kept(pieces: list[bytes], room: int) -> None:
    kept, all_of_it = Kept(room), b"".join(pieces)
    for piece in pieces:
        kept.add(piece)
    assert kept.total == len(all_of_it)
    assert len(kept.first) + len(kept.last) == min(room, len(all_of_it))
    assert all_of_it.startswith(bytes(kept.first))
    assert all_of_it.endswith(bytes(kept.last))


def test_a_cut_is_told_with_its_size_and_cuts_no_character_in_two() -> None:
    kept = Kept(10)
    kept.add("ä".encode() * 100)
    assert kept.text() == "äää\n[... 190 bytes left out ...]\nä"


def test_control_characters_do_not_reach_a_terminal() -> None:
    kept = Kept(100)
    kept.add(b"a\x1b[31mb\x07\x00c\x7f\xc2\x9bd\r\ne\tf")
    assert kept.text() == "a[31mbcd\ne\tf"


def test_results_have_the_form_that_meta_documents() -> None:
    ran = Ran(good=True, output="4\n", error="careful\n")
    assert written("completed", ran, False) == (
        "completed\n[stdout]4[/stdout]\n[stderr]careful[/stderr]"
    )
    assert written("completed", Ran(), False) == "completed"


def test_deep_folders_and_many_files_end_a_call_and_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    before = os.getcwd()
    os.chdir(folder)
    try:
        for _ in range(3000):  # far beyond what a path may be long
            os.mkdir("d")
            os.chdir("d")
            Path("f").write_text("x")
    finally:
        os.chdir(before)
    with pytest.raises(child._Ended, match="too deep"):
        child._size(folder)
    child._remove(folder)
    assert not folder.exists()


def test_removing_a_scratch_folder_follows_no_link(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o500)
    (tmp_path / "outside").write_text("x")
    folder = tmp_path / "scratch"
    (folder / "inner").mkdir(parents=True)
    (folder / "link").symlink_to(kept)
    (folder / "inner" / "link").symlink_to(kept)
    (folder / "inner" / "file").symlink_to(tmp_path / "outside")
    (folder / "inner" / "hidden").mkdir(mode=0)
    child._remove(folder)
    assert not folder.exists()
    assert kept.stat().st_mode & 0o777 == 0o500
    assert (tmp_path / "outside").read_text() == "x"
