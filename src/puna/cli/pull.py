"""`puna pull`: a checkpoint from a Hugging Face hub."""

from __future__ import annotations

from typing import Annotated

import typer


def pull(
    name: Annotated[
        str, typer.Argument(help="A name from `puna models`, or OWNER/REPOSITORY.", metavar="NAME")
    ],
    file: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this file (a pattern), for GGUF; may be given again.", metavar="FILE"
        ),
    ] = None,
) -> int:
    """Fetch a checkpoint into the hub's cache (HF_HOME). Begun before, it goes on.

    Meta's own repositories are gated: accept the licence on the hub's page, and set HF_TOKEN.
    """
    from puna.cli.terminal import busy, gigabytes, progress_bars, say
    from puna.opening import hub_of, repository_of, settings_from

    hub = hub_of(settings_from({}))
    repository = repository_of(name)
    with busy(f"asking {hub.address} for {repository}"):
        plan = hub.plan(repository, file or ())
    if plan.missing:
        have = plan.total - plan.to_fetch
        begun = f", {gigabytes(have)} of it are here" if have else ""
        say(f"fetching {repository} from {hub.address}: {gigabytes(plan.total)}{begun}")
    else:
        say(f"{repository} is here already ({gigabytes(plan.total)})")
    with progress_bars() as progress:
        folder = hub.fetch(repository, file or (), plan=plan, progress=progress)
    print(folder)
    if plan.missing:
        say(f"done; to go on: puna serve {name}")
    return 0
