"""What happens to every request around its route: ids, keys, origins, counts, last errors.

It knows headers and nothing of chat. An ASGI app that holds an app.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import re
import time
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from puna.errors import PunaError, Unauthorized
from puna.server.errors import ForeignOrigin, status_of, unexpected
from puna.server.metrics import Metrics
from puna.server.respond import error_response
from puna.server.streams import ClientGone

log = logging.getLogger("puna.server")

OPEN_PATHS = ("/", "/health")
_ID = re.compile(r"[\x21-\x7e]{1,200}")
CLIENT_CLOSED = 499


class FrontDoor:
    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        api_key: str | None = None,
        cors_origins: Sequence[str] = (),
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._api_key = api_key or None
        self._origins = frozenset(origin.rstrip("/").lower() for origin in cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        arrived = time.monotonic()
        status = CLIENT_CLOSED
        begun = False
        # `http://host:8080/` + `/chat/completions` is a common slip and harmless.
        scope["path"] = "/" + "/".join(part for part in scope["path"].split("/") if part)
        request_headers = Headers(scope=scope)

        async def send_with_ids(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                self._identify(MutableHeaders(scope=message), request_headers)
            await send(message)

        try:
            try:
                self._admit(scope, request_headers)
                await self._app(scope, receive, send_with_ids)
            except (ClientGone, ClientDisconnect):
                status = CLIENT_CLOSED
            except Exception as fault:
                error = fault if isinstance(fault, PunaError) else unexpected()
                if error is not fault:
                    log.exception("%s %r failed", scope["method"], scope["path"])
                status = status_of(error)
                # An answer that has begun cannot be taken back; left open, it breaks.
                if not begun:
                    await error_response(error, scope["path"])(scope, receive, send_with_ids)
        finally:
            seconds = time.monotonic() - arrived
            self._metrics.answered(_route(scope), status, seconds)
            log.info("%s %.200r %d %.3fs", scope["method"], scope["path"], status, seconds)

    def _admit(self, scope: Scope, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is not None and not self._origin_allowed(origin, headers.get("host", "")):
            raise ForeignOrigin(
                f"Pages of {origin[:100]} may not use this server. If they should, name the origin "
                """in the setting cors_origins, say PUNA_CORS_ORIGINS='["https://app.example"]'."""
            )
        if self._api_key is None or scope["path"] in OPEN_PATHS:
            return
        keys = _keys(headers)
        if not keys:
            raise Unauthorized(
                "Bad credentials: no key came with the request. Send this server's key as "
                "`Authorization: Bearer KEY` or as `api-key: KEY`."
            )
        expected = self._api_key.encode()
        if not any(hmac.compare_digest(key, expected) for key in keys):
            raise Unauthorized("Bad credentials: the key is not the one this server expects.")

    def _origin_allowed(self, origin: str, host: str) -> bool:
        """Only browsers send `Origin`. Foreign pages must not use a server that asks for no key.

        A page of this very server may, but where no key is asked for a *name* proves nothing: its
        owner can point it at this machine (DNS rebinding). Numbers and localhost cannot be moved.
        """
        if "*" in self._origins or origin.lower() in self._origins:
            return True
        page = urlsplit(origin)
        if not page.netloc or page.netloc.lower() != host.lower():
            return False
        return self._api_key is not None or _is_fixed(page.hostname or "")

    @staticmethod
    def _identify(headers: MutableHeaders, request_headers: Headers) -> None:
        headers["x-request-id"] = uuid.uuid4().hex
        client_id = request_headers.get("x-ms-client-request-id", "")
        if _ID.fullmatch(client_id):
            headers["x-ms-client-request-id"] = client_id


def _keys(headers: Headers) -> list[bytes]:
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    found = [token.strip()] if scheme.lower() == "bearer" else []
    found += [headers.get(name, "").strip() for name in ("api-key", "x-api-key")]
    return [key.encode("latin-1") for key in found if key]


def _is_fixed(hostname: str) -> bool:
    if hostname == "localhost" or hostname.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(hostname)
    except ValueError:
        return False
    return True


def _route(scope: Scope) -> str:
    """The name of the route that answered: a label must not hold what callers write in a path."""
    endpoint: Any = scope.get("endpoint")
    if endpoint is None:
        return "none"
    return getattr(endpoint, "__name__", type(endpoint).__name__.lower())
