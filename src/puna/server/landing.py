"""The page at `/`: what this is, what is loaded, and the lines to paste. No scripts, no network."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template

from puna.server.names import Models


def landing_page(models: Models, base_url: str, *, needs_key: bool) -> str:
    template = Template(files("puna.server").joinpath("landing.html").read_text(encoding="utf-8"))
    rows = "".join(
        f"<tr><td><code>{escape(one.name)}</code></td>"
        f"<td>{', '.join(one.model.card.modalities)}</td>"
        f"<td>{one.model.card.context_length:,}</td>"
        f"<td>{escape(one.model.card.summary)}</td></tr>"
        for one in models.served
    )
    aliases = "".join(
        f"<li><code>{escape(alias)}</code> is answered by <code>{escape(one.name)}</code></li>"
        for alias, one in models.aliases.items()
    )
    return template.substitute(
        base=escape(base_url),
        model=escape(models.default.name),
        key="THE_KEY_OF_THIS_SERVER" if needs_key else "any",
        key_note="This server asks for its key." if needs_key else "Any key will do.",
        rows=rows,
        aliases=f"<h2>Other names</h2><ul>{aliases}</ul>" if aliases else "",
    )
