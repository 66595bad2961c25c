"""Checkpoints from a Hugging Face hub: fetch one, find one that was fetched.

It knows repositories and files; what a model is, and which repository holds it, is for others.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from puna.errors import DownloadFailed

if TYPE_CHECKING:
    from huggingface_hub.file_download import DryRunFileInfo

HUB = "https://huggingface.co"
CHECKPOINT_FILES = (
    "*.json",
    "*.safetensors",
    "tokenizer.model",
    "*.jinja",
    "LICENSE*",
    "USE_POLICY*",
)
NOT_NEEDED = ("original/*", "*/original/*", "onnx/*", "openvino/*")
"""Meta's own files repeat the weights; the others are for other engines."""


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
        """What `fetch` would bring. `files` are patterns; none means a whole checkpoint."""
        plan = Plan(self._snapshot(repository, files, dry_run=True))
        if not any(name.endswith((".safetensors", ".pth", ".gguf")) for name in plan.names):
            wanted = ", ".join(files) if files else "safetensors"
            raise DownloadFailed(
                f"{repository} at {self.address} has no weights that Puna can read ({wanted}); for "
                "GGUF name the file: puna pull REPOSITORY --file NAME.gguf"
            )
        return plan

    def fetch(self, repository: str, files: Sequence[str] = ()) -> Path:
        """Bring `repository` into the cache, resuming what was begun; the folder it is in."""
        plan = self.plan(repository, files)
        self.cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.cache).free
        if plan.missing > free:
            raise DownloadFailed(
                f"{repository} needs {plan.missing / 1e9:.1f} GB more, and {self.cache} has "
                f"{free / 1e9:.1f} GB free; make room, or set HF_HOME to another disk"
            )
        return Path(self._snapshot(repository, files))

    def find(self, repository: str) -> Path | None:
        """The folder of a `repository` that is whole in the cache, else None."""
        home = self._home(repository)
        try:
            commit = (home / "refs" / "main").read_text().strip()
        except OSError:
            return None
        folder = home / "snapshots" / commit
        return folder if folder.is_dir() and not self.begun(repository) else None

    def begun(self, repository: str) -> bool:
        """Whether a download of `repository` was begun and not ended."""
        return any(self._home(repository).glob("blobs/*.incomplete"))

    def _home(self, repository: str) -> Path:
        return self.cache / f"models--{repository.replace('/', '--')}"

    def _snapshot(self, repository: str, files: Sequence[str], **how: bool) -> Any:
        with self._explained(repository):
            import huggingface_hub
            from huggingface_hub.utils import disable_progress_bars

            if not sys.stderr.isatty():
                disable_progress_bars()
            library: Any = huggingface_hub
            return library.snapshot_download(
                repo_id=repository,
                cache_dir=self.cache,
                endpoint=self.endpoint,
                token=self.token,
                allow_patterns=[*files, "*.json", "tokenizer.model"] if files else CHECKPOINT_FILES,
                ignore_patterns=NOT_NEEDED,
                **how,
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
            if error.response.status_code == 401 and self.has_token():
                raise DownloadFailed(
                    f"{self.address} does not know your token: make a new one at "
                    f"{self.address}/settings/tokens and set HF_TOKEN"
                ) from error
            raise DownloadFailed(
                f"there is no {repository} at {self.address} that you may see: check the name, or, "
                f"if it is private, {self._token_hint()}"
            ) from error
        except errors.HFValidationError as error:
            raise DownloadFailed(
                f"{repository!r} is no repository; expected OWNER/NAME or a name of `puna models`"
            ) from error
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            if status == 401:
                reason = "does not know your token: make a new one and set HF_TOKEN"
            elif status == 429:
                reason = "says that you ask too often: wait a few minutes"
            else:
                reason = f"answered with status {status}"
            raise DownloadFailed(f"{self.address} {reason}; {_GO_ON}") from error
        except (httpx2.HTTPError, errors.LocalEntryNotFoundError, ConnectionError) as error:
            raise DownloadFailed(
                f"cannot reach {self.address} ({_innermost(error)}); check the network, "
                f"HTTPS_PROXY and HF_ENDPOINT; {_GO_ON}"
            ) from error
        except OSError as error:
            place = f" ({error.filename})" if error.filename else ""
            raise DownloadFailed(
                f"{repository}: {(error.strerror or str(error)).lower()}{place}; {_GO_ON}"
            ) from error

    def has_token(self) -> bool:
        """Whether requests carry a token: the one given, or one that the library kept."""
        from huggingface_hub import get_token

        return bool(self.token or get_token())

    def _token_hint(self) -> str:
        if self.has_token():
            return "check that the token in use (HF_TOKEN or `hf auth login`) is of that account"
        return f"make a token at {self.address}/settings/tokens, set HF_TOKEN to it"


_GO_ON = "what came so far is kept, and pulling again goes on from there"


class Plan:
    """The files of a fetch, with how many bytes are on disk already and how many are not."""

    def __init__(self, files: Sequence[DryRunFileInfo]) -> None:
        self.names = [file.filename for file in files]
        self.total = sum(file.file_size or 0 for file in files)
        self.missing = sum(file.file_size or 0 for file in files if file.will_download)


def _innermost(error: BaseException) -> str:
    while error.__cause__ or error.__context__:
        error = cast("BaseException", error.__cause__ or error.__context__)
    return str(error) or type(error).__name__
