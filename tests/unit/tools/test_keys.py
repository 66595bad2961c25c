"""Keys of outside services: found in order, kept out of others' sight."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from puna.cli.main import run_command_line
from puna.errors import StartupError
from puna.settings import Settings
from puna.tools import keys
from puna.tools.keys import key_of, keys_file, place_of, remove_key, secrets_of, set_key


class Ring:
    """A keyring in memory; `broken` ones raise as a locked keyring does."""

    priority = 5.0

    def __init__(self, *, broken: bool = False) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.broken = broken

    def _work(self) -> None:
        if self.broken:
            raise RuntimeError("the keyring is locked")

    def get_password(self, service: str, username: str) -> str | None:
        self._work()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._work()
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._work()
        del self.kept[service, username]


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("BRAVE_API_KEY", "WOLFRAM_APP_ID", "PUNA_KEYRING", "PUNA_CONFIG_DIR"):
        monkeypatch.delenv(variable, raising=False)


def settings_in(folder: Path, **fields: Any) -> Settings:
    return Settings(config_dir=folder / "puna", keyring=False, **fields)


def with_ring(monkeypatch: pytest.MonkeyPatch, ring: Ring) -> None:
    monkeypatch.setattr(keys, "_keyring", lambda _settings: ring)


def test_without_any_there_is_none(tmp_path: Path) -> None:
    assert key_of("brave_search", settings_in(tmp_path)) is None


def test_a_key_in_the_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert set_key("brave_search", " s3cret\n", settings) == "file"
    assert key_of("brave_search", settings) == "s3cret"
    assert stat.S_IMODE(keys_file(settings).stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.config_dir.stat().st_mode) == 0o700
    assert [path.name for path in settings.config_dir.iterdir()] == ["keys.json"]


def test_the_environment_goes_before_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_key("brave_search", "kept", settings_in(tmp_path))
    monkeypatch.setenv("BRAVE_API_KEY", "given")
    settings = settings_in(tmp_path)
    assert key_of("brave_search", settings) == "given"
    assert place_of("brave_search", settings) == "settings"
    assert "given" not in repr(settings)


def test_a_keyring_goes_before_the_file_and_empties_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path)
    set_key("brave_search", "old", settings)
    set_key("wolfram_alpha", "other", settings)
    ring = Ring()
    with_ring(monkeypatch, ring)
    assert set_key("brave_search", "new", settings) == "keyring"
    assert key_of("brave_search", settings) == "new"
    assert "old" not in keys_file(settings).read_text()
    assert key_of("wolfram_alpha", settings) == "other"


def test_a_locked_keyring_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in(tmp_path)
    with_ring(monkeypatch, Ring(broken=True))
    assert set_key("brave_search", "s3cret", settings) == "file"
    assert key_of("brave_search", settings) == "s3cret"
    assert remove_key("brave_search", settings)
    assert key_of("brave_search", settings) is None


def test_removed_is_removed_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in(tmp_path)
    set_key("brave_search", "a", settings)
    ring = Ring()
    with_ring(monkeypatch, ring)
    ring.set_password("puna", "brave_search", "b")
    assert remove_key("brave_search", settings)
    assert key_of("brave_search", settings) is None
    assert not keys_file(settings).exists()
    assert not remove_key("brave_search", settings)


def test_a_file_that_others_can_read_is_refused_with_what_to_do(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    set_key("brave_search", "s3cret", settings)
    keys_file(settings).chmod(0o644)
    with pytest.raises(StartupError, match="chmod 600") as caught:
        key_of("brave_search", settings)
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize("content", ["no json", "[1]"])
def test_a_broken_file_is_told_without_what_is_in_it(tmp_path: Path, content: str) -> None:
    settings = settings_in(tmp_path)
    settings.config_dir.mkdir()
    keys_file(settings).write_text(content)
    keys_file(settings).chmod(0o600)
    with pytest.raises(StartupError, match="mend or remove the file") as caught:
        key_of("brave_search", settings)
    assert content not in caught.value.message


def test_an_unknown_name_is_told_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="brave_search, wolfram_alpha"):
        key_of("google", settings_in(tmp_path))


def test_all_secrets_are_known_to_those_who_must_write_none(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, api_key="front", hf_token="hub")
    set_key("wolfram_alpha", "kept", settings)
    assert set(secrets_of(settings)) == {"front", "hub", "kept"}


def test_the_command_keeps_lists_and_removes_and_never_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PUNA_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("PUNA_KEYRING", "false")
    monkeypatch.setattr("puna.cli.keys._asked", lambda _name: "s3cret\n")
    assert run_command_line(["keys", "set", "brave_search"]) == 0
    assert run_command_line(["keys", "list"]) == 0
    assert run_command_line(["keys", "remove", "brave_search"]) == 0
    assert run_command_line(["keys"]) == 0
    shown = capsys.readouterr().out
    assert f"brave_search: in {tmp_path / 'keys.json'}" in shown
    assert "brave_search: removed" in shown
    assert "wolfram_alpha: none" in shown
    assert "s3cret" not in shown


@pytest.mark.parametrize("words", [["set"], ["set", "google"], ["steal", "brave_search"]])
def test_a_wrong_command_says_what_is_expected(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(["keys", *words]) == 2
    assert "set" in capsys.readouterr().err
