"""`create_app`: the routes of the wire, joined to the models that answer them.

It knows which path leads where, and nothing of what happens there. Paths differ only in their
prefix: the same handlers stand behind each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from puna.chat import ChatModel
from puna.server import catalog as lists
from puna.server.completions import Completions
from puna.server.errors import NoRoute, NotServed, WrongMethod
from puna.server.frontdoor import FrontDoor
from puna.server.images import Images
from puna.server.landing import landing_page
from puna.server.metrics import CONTENT_TYPE, Metrics, Stats
from puna.server.names import Models
from puna.server.respond import error_response, json_response
from puna.settings import Settings

PREFIXES = (
    "",
    "/inference",
    "/orgs/{org}/inference",
    "/v1",
    "/models",
    "/openai/v1",
    "/openai/deployments/{model:path}",
)
# In this order: `{model:path}` would swallow the first half of `images/embeddings`.
NOT_SERVED = {
    "images/embeddings": "Image embeddings are",
    "embeddings": "Embeddings are",
    "images/generations": "Image generation is",
    "audio/transcriptions": "Transcription is",
    "audio/speech": "Speech is",
    "completions": "The older completions API is",
    "responses": "The Responses API is",
    "messages": "The Messages API is",
    "moderations": "Moderation is",
}


def create_app(
    models: Mapping[str, ChatModel],
    *,
    default: str | None = None,
    aliases: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    stats: Stats | None = None,
) -> Starlette:
    """An ASGI app that serves `models` under the names given.

    `default` answers requests that name no model (else: the first). `aliases` maps further names to
    models. `stats` is asked for the engines' gauges whenever /metrics is read. Raises
    `StartupError` where two models answer to one name or an alias leads nowhere.
    """
    settings = settings or Settings()
    served = Models(models, default=default, aliases=aliases)
    metrics = Metrics(stats)
    completions = Completions(
        served,
        metrics,
        images=lambda: Images(
            allow_urls=settings.allow_image_urls,
            max_images=settings.max_images,
            max_bytes=settings.max_body_bytes,
        ),
        max_body_bytes=settings.max_body_bytes,
        max_queue=settings.max_queue,
    )

    async def landing(request: Request) -> Response:
        html = landing_page(served, _base_url(request), needs_key=bool(settings.api_key))
        return HTMLResponse(html)

    async def health(_: Request) -> Response:
        return json_response({"status": "ok", "models": [one.name for one in served.served]})

    async def prometheus(_: Request) -> Response:
        return Response(metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def info(request: Request) -> Response:
        return json_response(lists.info(served.find(request.path_params.get("model"))))

    async def catalog(request: Request) -> Response:
        return json_response(lists.catalog(served, _base_url(request)))

    async def legacy_models(_: Request) -> Response:
        return json_response(lists.legacy_list(served))

    async def list_models(_: Request) -> Response:
        return json_response(lists.openai_list(served))

    async def get_model(request: Request) -> Response:
        name = request.path_params["id"]
        return json_response(lists.openai_model(name, served.find(name)))

    routes = [
        Route("/", landing),
        Route("/health", health),
        Route("/metrics", prometheus),
        Route("/catalog/models", catalog),
        Route("/models", legacy_models),
    ]
    for prefix in PREFIXES:
        routes.append(Route(f"{prefix}/chat/completions", completions, methods=["POST"]))
        routes.append(Route(f"{prefix}/info", info))
        for tail, what in NOT_SERVED.items():
            routes.append(Route(f"{prefix}/{tail}", _refusal(what), methods=["POST"]))
    for prefix in ("/v1", "/openai/v1"):
        routes.append(Route(f"{prefix}/models", list_models))
        routes.append(Route(f"{prefix}/models/{{id:path}}", get_model))

    async def http_error(request: Request, error: Exception) -> Response:
        path = request.url.path
        if isinstance(error, HTTPException) and error.status_code == 405:
            allow = (error.headers or {}).get("Allow", "")
            allow = ", ".join(sorted({*allow.split(", "), "OPTIONS"}))
            if request.method == "OPTIONS":
                return Response(status_code=204, headers={"Allow": allow})
            wrong = f"{path} takes {allow}, not {request.method}."
            return error_response(WrongMethod(wrong, allow=allow))
        return error_response(
            NoRoute(
                f"There is no route {request.method} {path[:200]}. Puna answers POST "
                "/chat/completions (also under /inference, /v1, /models, /openai/v1), GET "
                "/v1/models, /catalog/models, /models, /info, /health, /metrics and /."
            )
        )

    middleware = [
        Middleware(
            FrontDoor,
            metrics=metrics,
            api_key=settings.api_key,
            cors_origins=settings.cors_origins,
        )
    ]
    if settings.cors_origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
        )
        # Outside, for a browser asks leave before it sends a key.
        middleware.insert(0, cors)
    app = Starlette(
        routes=routes, middleware=middleware, exception_handlers={HTTPException: http_error}
    )
    app.router.redirect_slashes = False
    return app


def _refusal(what: str) -> Callable[[Request], Awaitable[Response]]:
    async def not_served(_: Request) -> Response:
        raise NotServed(f"{what} not served here. Puna answers POST /chat/completions.")

    return not_served


def _base_url(request: Request) -> str:
    """How the caller reached us: what to paste where is right only for them."""
    return f"{request.url.scheme}://{request.url.netloc}"
