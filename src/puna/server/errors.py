"""From an error to an HTTP answer: status, body and headers.

It knows every error that Puna raises and no route but one fact: OpenAI's clients look for another
code where the model is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from puna import errors


class HttpRefusal(errors.RequestError):
    """A request refused for a reason that only HTTP knows."""

    status = 400
    headers: Mapping[str, str] = {}


class BodyTooLarge(HttpRefusal):
    code = "request_body_too_large"
    status = 413


class SlowBody(HttpRefusal):
    code = "request_timeout"
    status = 408


class UnsupportedEncoding(HttpRefusal):
    code = "unsupported_media_type"
    status = 415


class ForeignOrigin(HttpRefusal):
    code = "forbidden_origin"
    status = 403


class NoRoute(HttpRefusal):
    code = "not_found"
    status = 404


class NotServed(HttpRefusal):
    code = "not_served"
    status = 404


class WrongMethod(HttpRefusal):
    code = "method_not_allowed"
    status = 405

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.headers = {"Allow": allow}


# The first that fits, so a class stands before its base.
_STATUS: tuple[tuple[type[errors.PunaError], int, str], ...] = (
    (errors.Unauthorized, 401, "authentication_error"),
    (errors.UnknownModel, 404, "invalid_request_error"),
    (errors.RequestError, 400, "invalid_request_error"),
    (errors.Overloaded, 429, "rate_limit_error"),
    (errors.RemoteFailed, 502, "server_error"),
    (errors.PunaError, 500, "server_error"),
)


def unexpected() -> errors.PunaError:
    """What a caller is told of a fault that nobody foresaw; the log holds the rest."""
    return errors.EngineFailed(
        "Puna failed on this request; the server's log says why. Other requests go on."
    )


def status_of(error: errors.PunaError) -> int:
    if isinstance(error, HttpRefusal):
        return error.status
    return next(status for kind, status, _ in _STATUS if isinstance(error, kind))


def body_of(error: errors.PunaError, *, path: str = "") -> dict[str, Any]:
    """The error as JSON. `path` is the request's: `/v1` and `/openai` are OpenAI's own."""
    code = error.code
    if isinstance(error, errors.UnknownModel) and path.startswith(("/v1/", "/openai/")):
        code = "model_not_found"
    param = error.param if isinstance(error, errors.RequestError) else None
    kind = next(name for kind, _, name in _STATUS if isinstance(error, kind))
    return {
        "error": {
            "code": code,
            "message": error.message,
            "type": kind,
            "param": param,
            "details": [],
        }
    }


def headers_of(error: errors.PunaError) -> dict[str, str]:
    """`Retry-After` goes out with 429 alone: azure-core waits and retries on any status with it."""
    match error:
        case errors.Overloaded():
            seconds = str(max(1, math.ceil(error.retry_after)))
            return {
                "Retry-After": seconds,
                "x-ratelimit-timeremaining": seconds,
                "x-ratelimit-type": "UserConcurrentRequests",
                "x-ms-error-code": error.code,
            }
        case errors.Unauthorized():
            return {"WWW-Authenticate": "Bearer"}
        case HttpRefusal():
            return dict(error.headers)
        case _:
            return {}
