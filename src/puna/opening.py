"""From what a user names to what answers: paths, catalog names, embedded models, addresses.

It joins settings, catalog, hub and models, and knows no server and no terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puna.errors import CheckpointError, StartupError

if TYPE_CHECKING:
    from puna.chat import ChatModel
    from puna.hub import Hub
    from puna.settings import Settings

EMBEDDED = ("cria-text", "cria-vision")


def settings_from(options: Mapping[str, Any]) -> Settings:
    """Settings with `options` above environment and file; None leaves those as they are.

    An option that does not exist is a `StartupError`; a value out of place pydantic's own error.
    """
    from puna.settings import Settings

    for name in options:
        if name not in Settings.model_fields:
            raise StartupError(
                f"there is no setting {name}; there are {', '.join(Settings.model_fields)}"
            )
    return Settings(**{name: value for name, value in options.items() if value is not None})


def hub_of(settings: Settings) -> Hub:
    from puna.hub import Hub

    return Hub(cache=settings.hub_cache, endpoint=settings.hf_endpoint, token=settings.hf_token)


def open_model(name: str, settings: Settings) -> ChatModel:
    """What answers under `name`. Raises `StartupError`; never downloads."""
    if name.startswith(("http://", "https://")):
        from puna.remote import RemoteModel

        return RemoteModel(name)
    path = locate(name, settings)  # Told before torch is imported, which takes seconds.
    from puna.local import LocalModel

    return LocalModel.load(path, settings, name=model_name(name))


def model_name(name: str) -> str:
    """The name that requests use: a catalog name as it stands, a path's last part."""
    path = Path(name)
    looks_like_path = name.startswith((".", "/", "~")) or path.exists()
    return path.expanduser().resolve().name.removesuffix(".gguf") if looks_like_path else name


def locate(name: str, settings: Settings) -> Path:
    """Where the checkpoint called `name` is on this machine. Raises `StartupError`."""
    if name in EMBEDDED:
        return embedded(name)
    path = Path(name).expanduser()
    if path.exists():
        return path
    if name.startswith((".", "/", "~")):
        raise CheckpointError(f"{name}: there is no such file or folder")
    if settings.models_dir is not None and (settings.models_dir / name).exists():
        return settings.models_dir / name
    repository = repository_of(name)
    hub = hub_of(settings)
    found = hub.find(repository) if "/" in repository else None
    if found is not None:
        return found
    if "/" in repository:
        rest = "a download that has not ended" if hub.begun(repository) else "not on this machine"
        raise StartupError(f"{name} is {rest}; fetch it with: puna pull {name}")
    raise StartupError(
        f"there is no model {name!r}: it is no path, no embedded model ({', '.join(EMBEDDED)}) and "
        "no name that `puna models` lists"
    )


def repository_of(name: str) -> str:
    """The hub's repository for a catalog name; a repository's own name stays."""
    return name


def embedded(name: str) -> Path:
    """The folder of an embedded model."""
    folder = Path(str(files("puna") / "cria" / name.removeprefix("cria-")))
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{name} is missing from this installation ({folder}); install Puna again"
        )
    return folder
