"""From what a user names to what answers: paths, catalog names, embedded models, addresses.

It joins settings, catalog, hub and models, and knows no server and no terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puna.errors import CheckpointError, StartupError
from puna.llama import catalog

if TYPE_CHECKING:
    from puna.chat import ChatModel
    from puna.hub import Hub
    from puna.settings import Settings
    from puna.tools.approvals import Approvals
    from puna.tools.loop import ToolLoop
    from puna.tools.open import Toolbox

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
    """What answers under `name`. Raises `StartupError`; never downloads.

    `http://HOST:PORT#MODEL` is MODEL of a server elsewhere, which gets `settings.api_key`.
    """
    if is_address(name):
        from puna.remote import RemoteModel

        endpoint, _, model = name.partition("#")
        return RemoteModel(endpoint, model or None, api_key=settings.api_key)
    path = locate(name, settings)  # Told before torch is imported, which takes seconds.
    draft = locate(settings.draft, settings) if settings.draft else None
    from puna.local import LocalModel

    return LocalModel.load(path, settings, name=model_name(name), draft=draft)


def with_tools(
    model: ChatModel, box: Toolbox, approvals: Approvals, settings: Settings
) -> ToolLoop:
    """`model`, with the tools of `box` and the limits of `settings`. Its `close` leaves both be."""
    from puna.tools.loop import Limits, ToolLoop
    from puna.tools.selection import Selection

    return ToolLoop(
        model,
        box.tools,
        Limits(
            steps=settings.tool_steps,
            call_seconds=settings.tool_call_seconds,
            seconds=settings.tool_seconds,
            tokens=settings.tool_tokens,
            result_chars=settings.tool_result_chars,
        ),
        approvals=approvals,
        selection=Selection(
            most=settings.max_tools,
            tokens=settings.max_tool_tokens,
            pinned=frozenset(settings.pinned_tools),
        ),
        thread=box.thread,
        conversations=settings.tool_conversations,
        idle=settings.tool_idle_seconds,
    )


def close(model: ChatModel) -> None:
    """End what runs behind `model`, if anything does."""
    ending: Callable[[], None] | None = getattr(model, "close", None)
    if ending is not None:
        ending()


def stats_of(models: Mapping[str, ChatModel]) -> dict[str, Mapping[str, float]]:
    """The engines' numbers, of the models that have any."""
    asked: dict[str, Callable[[], Mapping[str, float]] | None] = {
        name: getattr(model, "stats", None) for name, model in models.items()
    }
    return {name: stats() for name, stats in asked.items() if stats is not None}


def is_address(name: str) -> bool:
    """Whether `name` is a server's."""
    return name.lower().startswith(("http://", "https://"))


def model_name(name: str) -> str:
    """The name that requests use: a path's last part, the catalog's spelling, else as it stands."""
    if is_address(name):
        address, _, model = name.partition("#")
        return model or address.partition("://")[2].partition("/")[0]
    if name not in EMBEDDED and (_looks_like_path(name) or Path(name).exists()):
        return Path(name).expanduser().resolve().name.removesuffix(".gguf").removesuffix(".puna")
    known = catalog.find(name)
    return known.name if known else name


def locate(name: str, settings: Settings) -> Path:
    """Where the checkpoint called `name` is on this machine. Raises `StartupError`."""
    if name in EMBEDDED:
        return embedded(name)
    path = Path(name).expanduser()
    if path.exists():
        return path
    if _looks_like_path(name):
        raise CheckpointError(f"{name}: there is no such file or folder")
    if settings.models_dir is not None and (settings.models_dir / name).exists():
        return settings.models_dir / name
    if settings.models_dir is not None and (settings.models_dir / f"{name}.puna").is_file():
        return settings.models_dir / f"{name}.puna"
    repository = repository_of(name)
    found = find_on_disk(name, settings)
    if found is not None:
        return found
    rest = (
        "on this machine in part only"
        if hub_of(settings).begun(repository)
        else "not on this machine"
    )
    raise StartupError(f"{name} is {rest}; fetch it with: puna pull {name}")


def find_on_disk(name: str, settings: Settings) -> Path | None:
    """The folder of a model of the catalog or the hub: in `models_dir`, or in the hub's cache."""
    repository = repository_of(name)
    if settings.models_dir is not None:
        for place in (repository, repository.rpartition("/")[2], name):
            if (settings.models_dir / place).exists():
                return settings.models_dir / place
    return hub_of(settings).find(repository)


def repository_of(name: str) -> str:
    """The hub's repository for a catalog name; OWNER/REPOSITORY stays. Raises `StartupError`."""
    if name in EMBEDDED:
        raise StartupError(f"{name} comes with Puna: there is nothing to fetch")
    known = catalog.find(name)
    if known is not None and known.config is None:
        raise StartupError(
            f"{known.name} is of another architecture, which Puna does not run; it runs Llama 3, "
            "3.1, 3.2 and 3.3 (`puna models` lists them)"
        )
    if known is not None:
        return known.repository
    if name.count("/") == 1:
        return name
    near = get_close_matches(name, [*EMBEDDED, *(model.name for model in catalog.CATALOG)], 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise StartupError(
        f"there is no model {name!r}: it is no path, and no name that `puna models` lists{hint}"
    )


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.endswith((".gguf", ".puna"))


def embedded(name: str) -> Path:
    """The folder of an embedded model."""
    folder = Path(str(files("puna") / "cria" / name.removeprefix("cria-")))
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{name} is missing from this installation ({folder}); install Puna again"
        )
    return folder


def free_memory(settings: Settings) -> int:
    """Bytes that a model could take on the device that settings choose, about."""
    from puna.engine.memory import free_memory as free_of

    # Torch takes seconds to import, so it is asked only where there is something to ask for.
    if settings.device != "cpu" and Path("/proc/driver/nvidia").exists():
        with suppress(RuntimeError, AssertionError):
            return free_of("cuda")
    return free_of("cpu")
