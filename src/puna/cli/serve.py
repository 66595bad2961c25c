"""`puna serve`: models behind an HTTP endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from puna.cli.failures import INTERRUPTED
from puna.cli.options import (
    Alias,
    Asking,
    Device,
    Draft,
    Dtype,
    KvDtype,
    KvMemory,
    MaxContext,
    Pin,
    Quantize,
    Record,
    Replay,
    Speculation,
    Tools,
    aliases,
)

if TYPE_CHECKING:
    from puna.chat import ChatModel


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="Paths (an HF or Meta folder, a GGUF file), catalog names, embedded models.",
            show_default="cria-text cria-vision",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(help="Where to listen.", metavar="ADDRESS", show_default="127.0.0.1"),
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="0 takes any.", metavar="PORT", show_default="8080")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="Clients must send it; better in PUNA_API_KEY.", metavar="KEY", show_default="none"
        ),
    ] = None,
    alias: Alias = None,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    max_context: MaxContext = None,
    draft: Draft = None,
    speculation: Speculation = None,
    kv: KvDtype = None,
    kv_memory: KvMemory = None,
    allow_image_urls: Annotated[
        bool | None,
        typer.Option(
            "--allow-image-urls",
            help="Fetch pictures that requests name by address (public addresses alone).",
            show_default=False,
        ),
    ] = None,
    tools: Tools = None,
    asking: Asking = None,
    pin: Pin = None,
    record: Record = None,
    replay: Replay = None,
) -> int:
    """Serve models to programs that speak to Azure AI, GitHub Models or OpenAI."""
    from puna.cli.terminal import opened, say
    from puna.cli.tools import Wanted, opened_tools
    from puna.cli.tools import inventory as inventory_of_tools
    from puna.opening import EMBEDDED, settings_from, stats_of
    from puna.server import create_app, listen
    from puna.server import serve as serve_app

    settings = settings_from(
        {
            "host": host,
            "port": port,
            "api_key": api_key,
            "device": device,
            "dtype": dtype,
            "quantize": quantize,
            "max_context": max_context,
            "draft": draft,
            "speculation": speculation,
            "kv_dtype": kv,
            "kv_memory": kv_memory,
            "allow_image_urls": allow_image_urls,
            "pinned_tools": pin,
        }
    )
    wanted = aliases(alias or ())
    wanted_tools = Wanted(tools or (), asking or (), record, replay)
    # The port first: it is a pity to load for a minute and then find it taken.
    with (
        listen(settings.host, settings.port) as listener,
        opened_tools(wanted_tools, settings) as ready_tools,
        opened(models or EMBEDDED, settings) as loaded,
    ):
        answering = loaded
        if ready_tools is not None:
            answering = {name: ready_tools.give(model) for name, model in loaded.items()}
        app = create_app(
            answering, aliases=wanted, settings=settings, stats=lambda: stats_of(loaded)
        )
        for line in inventory(loaded):
            print(line)
        for line in inventory_of_tools(ready_tools) if ready_tools is not None else ():
            print(line)
        for old, new in wanted.items():
            print(f"{old} is answered by {new}")
        if not settings.api_key and not is_loopback(settings.host):
            say(
                f"anyone who can reach {settings.host} can use this server: set PUNA_API_KEY, or "
                "leave out --host"
            )

        def ready(url: str) -> None:
            print(greeting(url, needs_key=bool(settings.api_key)), flush=True)

        try:
            serve_app(app, listener=listener, ready=ready)
        except KeyboardInterrupt:
            say("stopped")
            return INTERRUPTED
    return 0


def inventory(models: Mapping[str, ChatModel]) -> list[str]:
    """A line for each model: how it is computed, what memory it takes, what that holds."""
    from puna.cli.terminal import gigabytes
    from puna.kernels import native
    from puna.local import LocalModel

    lines: list[str] = []
    for name, model in models.items():
        if not isinstance(model, LocalModel):
            lines.append(f"{name}: {model.card.summary}")
            continue
        memory = model.memory
        lines.append(
            f"{name}: {gigabytes(memory.weight_bytes)} of weights ({model.placement.weights}, "
            f"{model.placement.device}); {gigabytes(memory.kv_bytes)} for keys and values "
            f"hold {memory.kv_tokens:,} tokens, {memory.context:,} of one conversation"
        )
        if model.placement.device == "cpu" and (missing := native.why_not()):
            lines.append(f"{name} is computed by torch alone, without native kernels: {missing}")
    return lines


def greeting(url: str, *, needs_key: bool) -> str:
    """Where the server is, and the lines to paste into a program."""
    key = 'os.environ["PUNA_API_KEY"]' if needs_key else '"any"'
    return f"""
Puna answers at {url}  (Ctrl-C stops it)

  azure-ai-inference  ChatCompletionsClient(endpoint="{url}", credential=AzureKeyCredential({key}))
  openai              OpenAI(base_url="{url}/v1", api_key={key})
"""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on `host`."""
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
