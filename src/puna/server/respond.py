"""JSON and errors as responses. It knows bytes and headers; errors.py knows what they say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from puna.errors import PunaError
from puna.server.errors import body_of, headers_of, status_of


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    data = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(data.encode(), status, headers, media_type="application/json")


def error_response(error: PunaError, path: str = "") -> Response:
    return json_response(body_of(error, path=path), status_of(error), headers_of(error))
