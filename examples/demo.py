"""`make demo`: Puna on the embedded models, and the lesson's programs that talk to it.

The programs are run as anybody would run them: files of their own, with the real client, told
where Puna is by their environment. The last has the retired address written in it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Generator, Mapping
from pathlib import Path

EXAMPLES = Path(__file__).parent
PUNA = str(Path(sys.executable).with_name("puna"))
ALIASES = {
    "meta-llama-3.1-405b-instruct": "cria-text",
    "Llama-3.2-90B-Vision-Instruct": "cria-vision",
}


def main() -> int:
    print("Starting Puna on the models that it brings along: puna serve ...", flush=True)
    with serving() as url:
        print(f"It answers at {url}. The programs name models that are far larger:")
        for name, model in ALIASES.items():
            print(f"  {name} is answered by {model}")
        token = os.environ.get("GITHUB_TOKEN", "any")
        environment = {"AZURE_INFERENCE_ENDPOINT": url, "GITHUB_TOKEN": token}
        failed = 0
        failed += show("A question for a built-in tool", "built_in_search.py", environment)
        failed += show("A picture (examples/sample.jpg)", "describe_image.py", environment)
        failed += show(
            "A program with the retired address in it, unchanged",
            "retired_address.py",
            {"GITHUB_TOKEN": token},
            [PUNA, "run", "--quiet", "--endpoint", url, "--"],
        )
    failed += show_tools()
    if failed:
        return 1
    print(
        """
These two models are small and no chatbots; a Llama of the herd answers the same programs:
  . .venv/bin/activate
  puna models                       what there is, and what fits in this machine's memory
  puna pull Llama-3.2-1B-Instruct   fetches one (its licence must be accepted first)
  puna serve Llama-3.2-1B-Instruct  serves it
  puna run -- python lesson.py      runs a program unchanged, with the retired address in it
  puna chat                         a conversation in the terminal"""
    )
    return 0


@contextlib.contextmanager
def serving() -> Generator[str]:
    """The URL of a `puna serve` on a free port, while the block runs."""
    command = [PUNA, "serve", "--port", "0"]
    for name, model in ALIASES.items():
        command += ["--alias", f"{name}={model}"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield address_of(server)
    finally:
        server.terminate()
        server.wait(20)


def address_of(server: subprocess.Popen[str]) -> str:
    """What `puna serve` says that it answers at; it has said itself why not, if it does not."""
    for line in server.stdout or ():
        if line.startswith("Puna answers at "):
            return line.split()[3]
    raise SystemExit(server.wait() or 1)


def show(
    title: str, program: str, environment: Mapping[str, str], through: list[str] | None = None
) -> bool:
    """Run a program and show what it prints; whether it failed."""
    command = [*(through or []), sys.executable, str(EXAMPLES / program)]
    shown = [Path(part).name if "/" in part and "://" not in part else part for part in command]
    print(f"\n{title}\n$ {shlex.join(shown)}", flush=True)
    return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode != 0


def show_tools() -> bool:
    """A question for which the model needs a function that runs here; whether it failed."""
    arguments = ["ask", "What is the weather in Stockholm?", "--tools"]
    print(
        "\nA question, a call, a function that runs on this machine, an answer from its result\n"
        f"$ puna {shlex.join([*arguments, 'examples/tools.py'])}",
        flush=True,
    )
    command = [PUNA, *arguments, str(EXAMPLES / "tools.py")]
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode != 0


if __name__ == "__main__":
    sys.exit(main())
