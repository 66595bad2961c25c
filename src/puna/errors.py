"""Every error that Puna raises on purpose.

It knows no HTTP and no exit codes: the server maps `code` to a status, the command line prints the
message. A message says what was wrong, what was expected and what to do, on one line.

    PunaError
    ├── RequestError            the caller can mend the request
    │   ├── InvalidValue        a parameter is unknown, of the wrong type, or out of range
    │   │   ├── Unsupported     the parameter means something, but Puna does not honour it (yet)
    │   │   └── InvalidImage    not an image, too large, too many, or not to be fetched
    │   ├── ContextTooLong      the prompt (or prompt + max_tokens) does not fit the context
    │   ├── UnknownModel        no such model is loaded
    │   └── Unauthorized        wrong key or none
    ├── Overloaded              the queue is full: try again after `retry_after` seconds
    ├── EngineFailed            this request failed inside the engine; others go on
    ├── ToolFailed              a tool could not do what a call asked; the model is told the message
    ├── RemoteFailed            a server that Puna calls answered with an error, or not at all
    └── StartupError            the user can mend the command or the machine
        ├── CheckpointError     a model file is missing, truncated, corrupt, mislabelled or unknown
        ├── ModelTooLarge       weights and KV cache do not fit the memory
        └── DownloadFailed      a checkpoint could not be fetched
"""

from __future__ import annotations


class PunaError(Exception):
    """The root. `str(error)` is a message for people, without a trace of code."""

    code: str = "internal_error"

    @property
    def message(self) -> str:
        return str(self)


class RequestError(PunaError):
    """The request is at fault; `param` names the field, in the caller's own spelling."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InvalidValue(RequestError):
    code = "invalid_value"


class Unsupported(InvalidValue):
    code = "unsupported_parameter"


class InvalidImage(InvalidValue):
    code = "invalid_image"


class ContextTooLong(RequestError):
    """The prompt has `prompt_tokens`; the model's context takes `limit` (both in tokens)."""

    code = "context_length_exceeded"

    def __init__(
        self, message: str, *, prompt_tokens: int, limit: int, param: str | None = None
    ) -> None:
        super().__init__(message, param=param)
        self.prompt_tokens = prompt_tokens
        self.limit = limit


class UnknownModel(RequestError):
    code = "unknown_model"


class Unauthorized(RequestError):
    code = "unauthorized"


class Overloaded(PunaError):
    code = "RateLimitReached"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineFailed(PunaError):
    code = "internal_error"


class ToolFailed(PunaError):
    code = "tool_failed"


class RemoteFailed(PunaError):
    code = "upstream_error"


class StartupError(PunaError):
    code = "startup_error"


class CheckpointError(StartupError):
    code = "checkpoint_error"


class ModelTooLarge(StartupError):
    code = "model_too_large"


class DownloadFailed(StartupError):
    code = "download_failed"
