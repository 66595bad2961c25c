"""A hub and its cache on this machine, in the layout that the hub's own library keeps.

It turns whatever goes wrong there into one line that says what to do.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from puna.errors import DownloadFailed
from puna.hub.download import download

HUB = "https://huggingface.co"
CHECKPOINT_FILES = ("*.json", "*.safetensors", "tokenizer.model", "*.jinja", "LICENSE*")
NOT_NEEDED = ("original/*", "*/original/*", "onnx/*", "openvino/*")
"""Meta's own files repeat the weights; the others are for other engines."""
WEIGHTS = (".safetensors", ".pth", ".gguf")
LARGE = 2**20
"""Files of more bytes are resumed if they break off; smaller ones begin anew."""

Progress = Callable[[str, int, int], None]
"""Told a file's name, how many of its bytes are here, and how many it has."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is wanted of a repository at a commit: file -> bytes; `missing` are not here yet."""

    commit: str
    files: dict[str, int]
    missing: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.files.values())

    @property
    def to_fetch(self) -> int:
        return sum(self.missing.values())


@dataclass(frozen=True, slots=True)
class Hub:
    """`endpoint` None is the public hub; `token` None is whatever `hf auth login` kept."""

    cache: Path
    endpoint: str | None = None
    token: str | None = None

    @property
    def address(self) -> str:
        return (self.endpoint or HUB).rstrip("/")

    def plan(self, repository: str, files: Sequence[str] = ()) -> Plan:
        """What `fetch` would bring. `files` are patterns; none means a whole checkpoint.

        Raises `DownloadFailed`.
        """
        with self._explained(repository):
            from huggingface_hub import HfApi, try_to_load_from_cache

            api = HfApi(endpoint=self.endpoint, token=self.token)
            found = api.model_info(repository, files_metadata=True)
            commit = found.sha or "main"
            wanted = {
                each.rfilename: each.size or 0
                for each in found.siblings or ()
                if _matches(each.rfilename, _patterns(files))
                and not _matches(each.rfilename, NOT_NEEDED)
            }
            missing = {
                name: size
                for name, size in wanted.items()
                if not isinstance(
                    try_to_load_from_cache(repository, name, self.cache, revision=commit), str
                )
            }
        if not any(name.endswith(WEIGHTS) for name in wanted):
            what = ", ".join(files) if files else "safetensors"
            raise DownloadFailed(
                f"{repository} at {self.address} has no weights that Puna can read ({what}); for "
                "GGUF name the file: puna pull REPOSITORY --file NAME.gguf"
            )
        return Plan(commit, wanted, missing)

    def fetch(
        self,
        repository: str,
        files: Sequence[str] = (),
        *,
        plan: Plan | None = None,
        progress: Progress = lambda name, done, total: None,
    ) -> Path:
        """Bring `repository` into the cache, going on where it broke off; the folder it is in.

        Raises `DownloadFailed`.
        """
        plan = plan or self.plan(repository, files)
        self._make_room(repository, plan)
        with self._explained(repository):
            for name, size in plan.missing.items():
                if size > LARGE:
                    self._fetch_large(repository, plan.commit, name, size, progress)
            library = _library()
            library.utils.disable_progress_bars()
            folder = library.snapshot_download(
                repository,
                cache_dir=self.cache,
                endpoint=self.endpoint,
                token=self.token,
                allow_patterns=list(plan.files),
            )
        return Path(folder)

    def find(self, repository: str) -> Path | None:
        """The folder of a `repository` whose weights are in the cache, else None."""
        home = self._home(repository)
        try:
            commit = (home / "refs" / "main").read_text().strip()
        except OSError:
            return None
        folder = home / "snapshots" / commit
        return folder if _has_its_weights(folder) else None

    def begun(self, repository: str) -> bool:
        """Whether something of `repository` is here, but not all."""
        home = self._home(repository)
        some = any(home.glob("blobs/*")) or any(home.glob("snapshots/*/*"))
        return some and self.find(repository) is None

    def has_token(self) -> bool:
        """Whether requests carry a token: the one given, or one that the library kept."""
        from huggingface_hub import get_token

        return bool(self.token or get_token())

    def _home(self, repository: str) -> Path:
        return self.cache / f"models--{repository.replace('/', '--')}"

    def _fetch_large(
        self, repository: str, commit: str, name: str, size: int, progress: Progress
    ) -> None:
        library = _library()
        url = library.hf_hub_url(repository, name, revision=commit, endpoint=self.endpoint)
        meta = library.get_hf_file_metadata(url, token=self.token, endpoint=self.endpoint)
        if meta.etag is None:
            return  # The library knows other ways.
        blob = self._home(repository) / "blobs" / meta.etag
        if not blob.exists():
            download(
                url,
                blob,
                size=meta.size or size,
                etag=meta.etag,
                headers=library.utils.build_hf_headers(token=self.token),
                progress=lambda done: progress(name, done, meta.size or size),
            )

    def _make_room(self, repository: str, plan: Plan) -> None:
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.cache).free
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise DownloadFailed(
                f"cannot write to {self.cache}: {reason}; set HF_HOME to a folder of yours"
            ) from error
        begun = sum(
            file.stat().st_size for file in self._home(repository).glob("blobs/*.incomplete")
        )
        if plan.to_fetch - begun > free:
            raise DownloadFailed(
                f"{repository} needs {(plan.to_fetch - begun) / 1e9:.1f} GB more, and {self.cache} "
                f"has {free / 1e9:.1f} GB free; make room, or set HF_HOME to another disk"
            )

    @contextmanager
    def _explained(self, repository: str) -> Generator[None]:
        """Whatever goes wrong in the library, as one line that says what to do."""
        import httpx2
        from huggingface_hub import errors

        page = f"{self.address}/{repository}"
        try:
            yield
        except errors.GatedRepoError as error:
            raise DownloadFailed(
                f"{repository} is gated: sign in at {page}, accept the licence, wait for the word "
                f"that you have access, {self._token_hint()}, and pull again"
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise DownloadFailed(
                f"there is no {repository} at {self.address} that you may see: check the name, or, "
                f"if it is private, {self._token_hint()}"
            ) from error
        except errors.HFValidationError as error:
            raise DownloadFailed(
                f"{repository!r} is no repository; expected OWNER/NAME or a name of `puna models`"
            ) from error
        except (errors.HfHubHTTPError, httpx2.HTTPStatusError) as error:
            raise DownloadFailed(self._status(error.response.status_code)) from error
        except (httpx2.HTTPError, errors.LocalEntryNotFoundError, ConnectionError) as error:
            raise DownloadFailed(
                f"the line to {self.address} failed ({_innermost(error)}); check the network, "
                f"HTTPS_PROXY and HF_ENDPOINT; {_GO_ON}"
            ) from error
        except OSError as error:
            place = f" ({error.filename})" if error.filename else ""
            raise DownloadFailed(
                f"{repository}: {(error.strerror or str(error)).lower()}{place}; {_GO_ON}"
            ) from error

    def _status(self, status: int) -> str:
        if status == 401:
            return (
                f"{self.address} does not know your token: make a new one at "
                f"{self.address}/settings/tokens and set HF_TOKEN"
            )
        if status == 403:
            return f"{self.address} does not let your token read this: {self._token_hint()}"
        if status == 429:
            return f"{self.address} says that you ask too often: wait a few minutes; {_GO_ON}"
        return f"{self.address} answered with status {status}; {_GO_ON}"

    def _token_hint(self) -> str:
        if self.has_token():
            return "check that the token in use (HF_TOKEN or `hf auth login`) is of that account"
        return f"make a token at {self.address}/settings/tokens, set HF_TOKEN to it"


_GO_ON = "what came so far is kept, and pulling again goes on from there"


def _library() -> Any:
    """huggingface_hub, whose annotations pyright knows in part only."""
    import huggingface_hub

    return huggingface_hub


def _patterns(files: Sequence[str]) -> Sequence[str]:
    return (*files, "*.json", "tokenizer.model") if files else CHECKPOINT_FILES


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _has_its_weights(folder: Path) -> bool:
    index = folder / "model.safetensors.index.json"
    try:
        names: set[str] = set(json.loads(index.read_bytes())["weight_map"].values())
        return all((folder / name).exists() for name in names)
    except (OSError, ValueError, KeyError, AttributeError):
        return any(file.suffix in WEIGHTS for file in folder.glob("*"))


def _innermost(error: BaseException) -> str:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return str(error) or type(error).__name__
