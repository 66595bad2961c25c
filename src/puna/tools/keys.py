"""Keys of outside services: where they are kept, and how they are found again.

It knows no service. A key comes from, in order: the environment or puna.toml (settings), the
system's keyring where there is a real one, a file that its owner alone may read. No key is ever in
a message, a log or an answer.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, cast

from puna.errors import StartupError
from puna.settings import Settings

NAMES = {"brave_search": "brave_api_key", "wolfram_alpha": "wolfram_app_id"}
"""The tools that need a key, as `--tools` names them, and the setting that may hold it."""

Place: TypeAlias = Literal["settings", "keyring", "file"]

_SERVICE = "puna"
# Below 1 are keyrings that fail, forget, or write plain text.
_REAL_KEYRING = 1


class Keyring(Protocol):
    """The part of `keyring.backend.KeyringBackend` that is used here."""

    priority: float

    def get_password(self, service: str, username: str) -> str | None: ...
    def set_password(self, service: str, username: str, password: str) -> None: ...
    def delete_password(self, service: str, username: str) -> None: ...


def key_of(name: str, settings: Settings) -> str | None:
    """The key of the tool called `name`; None where there is none.

    Raises `StartupError` where the file of keys can be read by others, or cannot be read at all.
    """
    return next((key for key, _ in _found(name, settings)), None)


def place_of(name: str, settings: Settings) -> Place | None:
    """Where `key_of` finds it."""
    return next((place for _, place in _found(name, settings)), None)


def set_key(name: str, key: str, settings: Settings) -> Place:
    """Keep `key`; where. What was kept before under `name` is gone. Raises `StartupError`."""
    _check(name)
    key = key.strip()
    if not key or not key.isprintable():
        raise StartupError(f"the key of {name} is empty or no plain text; nothing was kept")
    ring = _keyring(settings)
    if ring is not None:
        try:
            ring.set_password(_SERVICE, name, key)
        except Exception:  # locked, or its service does not answer: the file takes it
            pass
        else:
            _write(settings, {each: kept for each, kept in _read(settings).items() if each != name})
            return "keyring"
    _write(settings, {**_read(settings), name: key})
    return "file"


def remove_key(name: str, settings: Settings) -> bool:
    """Forget the key wherever it is kept; False where none was. Raises `StartupError`."""
    _check(name)
    removed = False
    ring = _keyring(settings)
    if ring is not None:
        try:
            ring.delete_password(_SERVICE, name)
            removed = True
        except Exception:  # keyrings raise where there was none, each an error of its own
            removed = False
    kept = _read(settings)
    if kept.pop(name, None) is not None:
        _write(settings, kept)
        removed = True
    return removed


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """Every key that is known here, for those who must make sure to write none."""
    found = (key_of(name, settings) for name in NAMES)
    return tuple(key for key in (*found, settings.api_key, settings.hf_token) if key)


def _found(name: str, settings: Settings) -> list[tuple[str, Place]]:
    _check(name)
    given = cast("str | None", getattr(settings, NAMES[name]))
    if given:
        return [(given, "settings")]
    ring = _keyring(settings)
    if ring is not None:
        try:
            key = ring.get_password(_SERVICE, name)
        except Exception:  # locked, or its service does not answer
            key = None
        if key:
            return [(key, "keyring")]
    key = _read(settings).get(name)
    return [(key, "file")] if key else []


def _check(name: str) -> None:
    if name not in NAMES:
        raise StartupError(f"there is no key called {name!r}; there are {', '.join(NAMES)}")


def _keyring(settings: Settings) -> Keyring | None:
    """The system's keyring, where there is one that keeps secrets."""
    if not settings.keyring:
        return None
    try:
        import keyring
    except ImportError:
        return None
    ring = cast(Keyring, keyring.get_keyring())
    return ring if ring.priority >= _REAL_KEYRING else None


def keys_file(settings: Settings) -> Path:
    return settings.config_dir / "keys.json"


def _read(settings: Settings) -> dict[str, str]:
    path = keys_file(settings)
    try:
        with path.open(encoding="utf-8") as file:
            if os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise StartupError(f"{path} can be read by others; mend it with: chmod 600 {path}")
            kept = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StartupError(
            f"the keys in {path} cannot be read ({type(error).__name__}); mend or remove the file"
        ) from None
    if not isinstance(kept, dict):
        raise StartupError(f"{path} holds no keys of Puna's; mend or remove the file")
    return {
        name: key for name, key in cast("dict[str, object]", kept).items() if isinstance(key, str)
    }


def _write(settings: Settings, kept: dict[str, str]) -> None:
    """All or nothing, and at no moment readable by others."""
    path = keys_file(settings)
    if not kept:
        path.unlink(missing_ok=True)
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp's files are 0600 from the beginning.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".keys-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(kept, file, indent=2)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StartupError(f"the key cannot be written to {path}: {reason}") from None
