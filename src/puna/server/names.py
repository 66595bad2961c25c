"""Which loaded model answers to which name.

It knows models by their names and cards and nothing of HTTP. Case does not matter, nor does a
publisher in front (`meta/`); an alias lets an old name reach another model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from puna.chat import ChatModel
from puna.errors import StartupError, UnknownModel


@dataclass(frozen=True, slots=True)
class Served:
    """A loaded model under the name that answers carry."""

    name: str
    model: ChatModel = field(repr=False)

    def qualified(self, name: str) -> str:
        """`publisher/name`, as catalogs write this model's name or alias."""
        return name if "/" in name else f"{self.model.card.publisher}/{name}"


class Models:
    """The loaded models; `default` answers where a request names none.

    Raises `StartupError` where the names cannot be told apart or an alias leads nowhere.
    """

    def __init__(
        self,
        models: Mapping[str, ChatModel],
        *,
        default: str | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.served = tuple(Served(name, model) for name, model in models.items())
        if not self.served:
            raise StartupError("There is no model to serve: name at least one.")
        publishers = {served.model.card.publisher.lower() for served in self.served}
        self._prefixes = {f"{publisher}/" for publisher in publishers | {"meta", "meta-llama"}}
        self._by_key: dict[str, Served] = {}
        for served in self.served:
            for key in (served.name.lower(), served.qualified(served.name).lower()):
                if self._by_key.setdefault(key, served) is not served:
                    raise StartupError(
                        f"Two models answer to the name {served.name!r}: load one of them only."
                    )
        self.aliases: dict[str, Served] = {}
        for alias, target in (aliases or {}).items():
            found = self._lookup(target)
            if found is None:
                raise StartupError(
                    f"The alias {alias}={target} leads nowhere: {target!r} is not loaded "
                    f"({self._listed()} is)."
                )
            if self._lookup(alias) is not None:
                raise StartupError(
                    f"The alias {alias!r} is a loaded model's name, or another alias, already."
                )
            self.aliases[alias] = self._by_key[alias.lower()] = found
        self.default = self.served[0] if default is None else self.find(default)

    def find(self, name: str | None) -> Served:
        """The model of that name; raises `UnknownModel`, which lists those that are loaded."""
        if name is None:
            return self.default
        found = self._lookup(name)
        if found is None:
            shown = name if len(name) <= 100 else f"{name[:99]}…"
            raise UnknownModel(
                f"Unknown model: {shown}. Loaded here: {self._listed()}.", param="model"
            )
        return found

    def _lookup(self, name: str) -> Served | None:
        key = name.strip().lower()
        prefix, slash, bare = key.rpartition("/")
        if prefix + slash in self._prefixes:
            return self._by_key.get(key) or self._by_key.get(bare)
        return self._by_key.get(key) or self._by_key.get(f"meta/{key}")

    def _listed(self) -> str:
        names = [served.name for served in self.served]
        names += [f"{alias} (answered by {served.name})" for alias, served in self.aliases.items()]
        return ", ".join(names)
