"""`puna run`: a program, byte for byte unchanged, whose retired endpoint is answered here."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from puna.cli.options import Alias, Device, Dtype, KvDtype, KvMemory, MaxContext, Quantize, aliases

if TYPE_CHECKING:
    from puna.chat import ChatModel
    from puna.proxy.proxy import Proxy
    from puna.proxy.upstream import Route
    from puna.settings import Settings


def run(
    command: Annotated[
        list[str], typer.Argument(help="The program and its arguments.", metavar="PROGRAM")
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Path, catalog name or embedded model; may be given again.",
            metavar="MODEL",
            show_default="cria-text and cria-vision",
        ),
    ] = None,
    alias: Alias = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="Use the Puna that runs there, like http://127.0.0.1:8080, and load nothing.",
            metavar="URL",
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="The key of --endpoint; better in PUNA_API_KEY.",
            metavar="KEY",
            show_default="none",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing about Puna.")] = False,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    max_context: MaxContext = None,
    kv: KvDtype = None,
    kv_memory: KvMemory = None,
) -> int:
    """Run a program as it stands, with Puna in place of the retired endpoint.

    `puna run -- python lesson.py`: what the program sends to models.inference.ai.azure.com and
    models.github.ai is answered here; other hosts are reached as ever. Nothing on the system is
    changed, and the exit code is the program's.
    """
    from puna.cli.terminal import opened
    from puna.opening import EMBEDDED, settings_from
    from puna.proxy.upstream import route_of
    from puna.settings import environment

    options = {
        "device": device,
        "dtype": dtype,
        "quantize": quantize,
        "max_context": max_context,
        "kv_dtype": kv,
        "kv_memory": kv_memory,
    }
    if endpoint is not None and (model or alias or any(options.values())):
        raise typer.BadParameter(
            "--endpoint uses a Puna that runs already; what it serves is said there, so leave out "
            "--model, --alias and how to load"
        )
    wanted = aliases(alias or ())
    settings = settings_from({**options, "api_key": api_key})
    surrounding = environment()
    _must_exist(command[0], surrounding)
    route = route_of(surrounding)  # A wrong proxy is told before a model is loaded.
    with ExitStack() as stack:
        if endpoint is not None:
            server, token = _running(endpoint), settings.api_key
            who = f"the Puna at {server}"
        else:
            models = stack.enter_context(opened(model or EMBEDDED, settings))
            server, token = stack.enter_context(_serving(models, wanted, settings)), None
            who = " and ".join(models)
            if not model:
                who += ", which are small and no chatbots (-m MODEL loads others)"
        if not quiet:
            _announce(who)
        return _run_through(command, surrounding, server, token, route)


@contextmanager
def _serving(
    models: Mapping[str, ChatModel], wanted: Mapping[str, str], settings: Settings
) -> Generator[str]:
    """The URL of a server on loopback that takes any key: the program's token is not ours."""
    from puna.cli.names import retired_names
    from puna.server import background, create_app

    named = {name.lower() for name in wanted}
    retired = {old: new for old, new in retired_names(models).items() if old.lower() not in named}
    app = create_app(
        models,
        aliases={**retired, **wanted},
        settings=settings.model_copy(update={"api_key": None}),
    )
    with background(app) as url:
        yield url


def _run_through(
    command: list[str],
    surrounding: Mapping[str, str],
    server: str,
    token: str | None,
    route: Route,
) -> int:
    from tempfile import TemporaryDirectory

    from puna.cli.child import NOT_EXECUTABLE, supervise
    from puna.cli.terminal import say
    from puna.proxy import RETIRED_HOSTS
    from puna.proxy.certificate import certificates_for
    from puna.proxy.proxy import Proxy, target_of
    from puna.proxy.surroundings import surroundings

    occasion = certificates_for(RETIRED_HOSTS)
    proxy = Proxy(RETIRED_HOSTS, occasion.context, target_of(server), route)
    with TemporaryDirectory(prefix="puna-run-") as folder, _listening(proxy):
        child = surroundings(
            surrounding,
            hosts=RETIRED_HOSTS,
            proxy=proxy.address,
            server=server,
            token=token,
            authority=occasion.authority,
            folder=Path(folder),
        )
        try:
            code = supervise(command, child)
        except OSError as error:
            say(f"{command[0]} cannot be started: {(error.strerror or str(error)).lower()}")
            return NOT_EXECUTABLE
    if proxy.distrusted:
        say(
            "the program refused the certificate that was made for it: it has authorities of its "
            "own; those that honour SSL_CERT_FILE or REQUESTS_CA_BUNDLE work"
        )
    return code


@contextmanager
def _listening(proxy: Proxy) -> Generator[None]:
    from puna.loopthread import LoopThread

    thread = LoopThread()
    thread.run(proxy.start())
    try:
        yield
    finally:
        thread.run(proxy.close())
        thread.close()


def _must_exist(program: str, surrounding: Mapping[str, str]) -> None:
    import shutil

    from puna.cli.child import NOT_EXECUTABLE, NOT_FOUND

    if shutil.which(program, path=surrounding.get("PATH")) is not None:
        return
    there = Path(program).exists() and "/" in program
    reason = "is not an executable file" if there else "is not there: no such program"
    print(f"puna: {program} {reason}", file=sys.stderr)
    raise typer.Exit(NOT_EXECUTABLE if there else NOT_FOUND)


def _running(endpoint: str) -> str:
    """The URL of a running server, without what may follow its port. Raises `StartupError`."""
    import socket

    from puna.errors import StartupError
    from puna.proxy.proxy import target_of

    target = target_of(endpoint)
    try:
        socket.create_connection((target.host, target.port), timeout=10).close()
    except OSError as error:
        raise StartupError(
            f"nothing answers at {endpoint} ({(error.strerror or str(error)).lower()}); start it "
            "with puna serve, or leave out --endpoint"
        ) from error
    return endpoint.rstrip("/")


def _announce(who: str) -> None:
    from puna.cli.terminal import say
    from puna.proxy import RETIRED_HOSTS

    say(f"{' and '.join(RETIRED_HOSTS)} are answered here by {who}")
