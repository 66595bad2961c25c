"""The commands as a person uses them: real processes, a real checkpoint, a real terminal."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from puna.scripted import ScriptedModel, echo
from puna.server import background, create_app
from tests.checkpoints import (
    TINY_TIED,
    TINY_VISION,
    random_weights,
    write_gguf,
    write_hf,
    write_meta,
)

PUNA = str(Path(sys.executable).with_name("puna"))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
WEIGHTS = {"int4": "int4", "int8": "int8"}.get(os.environ.get("PUNA_QUANTIZE", ""), "float32")
SMALL = ("--max-context", "512", "--kv-memory", "64MB")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same tiny model in three formats, and one that sees."""
    folder = tmp_path_factory.mktemp("models")
    weights = random_weights(TINY_TIED, seed=1)
    for name in ("tiny", "tiny-meta", "tiny-vision", "empty"):
        (folder / name).mkdir()
    write_hf(folder / "tiny", TINY_TIED, weights)
    write_meta(folder / "tiny-meta", TINY_TIED, weights, shards=2)
    write_gguf(folder / "tiny.gguf", TINY_TIED, weights, quant="F32")
    write_hf(folder / "tiny-vision", TINY_VISION, random_weights(TINY_VISION, seed=1))
    return folder


def puna(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PUNA, *map(str, arguments)],
        env={**ENVIRONMENT, **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def serving(*arguments: object, **more: str) -> Generator[tuple[subprocess.Popen[str], str, str]]:
    """A `puna serve` that runs: the process, its URL, and what it said until then."""
    server = subprocess.Popen(
        [PUNA, "serve", "--port", "0", *map(str, arguments)],
        env={**ENVIRONMENT, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    said = ""
    try:
        for line in server.stdout:
            said += line
            if line.startswith("  openai"):
                break
        found = re.search(r"Puna answers at (\S+)", said)
        assert found, server.communicate()[1]
        yield server, found[1], said
    finally:
        server.kill()
        server.communicate()


def test_serve_says_what_it_loaded_and_the_lines_to_paste_work(models: Path) -> None:
    tiny, vision = models / "tiny", models / "tiny-vision"
    with serving(tiny, vision, "--alias", "gpt-4o=tiny", *SMALL) as (server, _, said):
        assert re.search(
            rf"tiny: \d+ kB of weights \({WEIGHTS}, cpu\); .* hold [\d,]+ tokens", said
        )
        assert "tiny-vision: " in said
        assert "gpt-4o is answered by tiny" in said
        pasted = re.search(r"OpenAI\(.*\)", said)
        assert pasted
        client: openai.OpenAI = eval(pasted[0], {"OpenAI": openai.OpenAI})
        with client:
            answer = client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "Hello"}], max_tokens=3
            )
        assert answer.model == "tiny"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 3
        server.send_signal(signal.SIGINT)
        _, stderr = server.communicate(timeout=30)
        assert server.returncode == 130
        assert stderr == "puna: stopped\n"


def test_a_request_that_runs_is_finished_before_ctrl_c_ends_the_server(models: Path) -> None:
    with serving(models / "tiny", *SMALL) as (server, url, _):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="any")
        stream = client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "Hello"}],
            max_tokens=100,
            stream=True,
        )
        chunks = iter(stream)
        next(chunks)
        server.send_signal(signal.SIGINT)
        reasons = [chunk.choices[0].finish_reason for chunk in chunks]
        assert reasons[-1] in ("stop", "length")
        client.close()
        server.communicate(timeout=30)


def test_a_key_from_the_environment_is_asked_for_and_not_printed(models: Path) -> None:
    with serving(models / "tiny", *SMALL, PUNA_API_KEY="sesame") as (_, url, said):
        assert "sesame" not in said
        with openai.OpenAI(base_url=f"{url}/v1", api_key="wrong") as client:
            with pytest.raises(openai.AuthenticationError):
                client.models.list()
            assert client.with_options(api_key="sesame").models.list().data[0].id == "tiny"


def test_an_open_door_is_warned_of(models: Path) -> None:
    with serving(models / "tiny", *SMALL, "--host", "0.0.0.0") as (server, *_):
        server.terminate()
        _, stderr = server.communicate(timeout=30)
    assert "anyone who can reach 0.0.0.0 can use this server: set PUNA_API_KEY" in stderr


def test_a_port_that_is_taken_is_told_before_anything_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = puna("serve", "/nowhere", "--port", port)
    assert done.returncode == 1
    assert f"port {port}: another program is using it" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["/nowhere"], 1, "/nowhere: there is no such file or folder"),
        (["{models}/tiny", "{models}/tiny-meta/../tiny"], 1, "two models would answer to 'tiny'"),
        (["{models}/tiny", "--alias", "a=b"], 1, "leads nowhere"),
        (["{models}/tiny", "--kv-memory", "9TB"], 1, "9000.0 GB"),
        (["{models}/tiny", "--max-context", "3"], 2, "setting max_context 3"),
        (["{models}/tiny", "--host", "no.such.host.invalid"], 1, "the name has no address"),
        (["{models}/empty"], 1, "holds no weights"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    models: Path, arguments: list[str], code: int, said: str
) -> None:
    done = puna("serve", "--port", "0", *(each.format(models=models) for each in arguments))
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("name", ["tiny", "tiny-meta", "tiny.gguf"])
def test_every_format_answers_alike(models: Path, name: str) -> None:
    asked = ("Hello", "--json", "--max-tokens", 8, "--temperature", 0, "--max-context", 512)
    done = puna("ask", "-m", models / name, *asked)
    first = puna("ask", "-m", models / "tiny", *asked)
    assert json.loads(done.stdout) == json.loads(first.stdout), done.stderr
    assert json.loads(done.stdout)["usage"]["completion_tokens"] == 8


@pytest.mark.parametrize("form", ["int4", "int8"])
def test_a_prepared_file_answers_as_the_model_packed_at_load(
    models: Path, tmp_path: Path, form: str
) -> None:
    file = tmp_path / "tiny.puna"
    made = puna("quantize", models / "tiny", "--to", file, "--format", form)
    assert made.stdout == f"{file}\n", made.stderr
    asked = ("Hello", "--json", "--max-tokens", 8, "--temperature", 0, "--max-context", 512)
    prepared = puna("ask", "-m", file, *asked)
    packed = puna("ask", "-m", models / "tiny", "--quantize", form, *asked)
    assert json.loads(prepared.stdout) == json.loads(packed.stdout), prepared.stderr


def test_models_are_found_by_name_in_a_folder_of_ones_own(models: Path) -> None:
    done = puna("ask", "-m", "tiny", "Hello", "--max-tokens", 2, PUNA_MODELS_DIR=str(models))
    assert done.returncode == 0, done.stderr


def test_run_loads_models_of_its_own_under_the_retired_names(models: Path) -> None:
    program = (
        "from openai import OpenAI\n"
        "client = OpenAI(base_url='https://models.inference.ai.azure.com')\n"
        "for name in ('meta-llama-3.1-405b-instruct', 'Llama-3.2-90B-Vision-Instruct', 'mine'):\n"
        "    answer = client.chat.completions.create(model=name, max_tokens=2,\n"
        "        messages=[{'role': 'user', 'content': 'Hello'}])\n"
        "    print(name, '->', answer.model)\n"
    )
    done = puna(
        *("run", "-m", models / "tiny", "-m", models / "tiny-vision", "--alias", "mine=tiny"),
        *(*SMALL, "--", sys.executable, "-c", program),
    )
    assert done.stdout.splitlines() == [
        "meta-llama-3.1-405b-instruct -> tiny",
        "Llama-3.2-90B-Vision-Instruct -> tiny-vision",
        "mine -> tiny",
    ], done.stderr
    assert "tiny and tiny-vision" in done.stderr


def test_models_and_doctor_speak_of_this_machine(tmp_path: Path) -> None:
    listed = puna("models", "--json", HF_HOME=str(tmp_path))
    rows = json.loads(listed.stdout)
    names = [row["name"] for row in rows]
    assert {"cria-text", "Llama-3.2-1B-Instruct", "Meta-Llama-3.1-405B-Instruct"} <= set(names)
    huge = next(row for row in rows if "405B" in row["name"])
    assert not huge["fits"]
    found = puna("doctor", PUNA_PORT="0")
    assert re.search(r"^ok +torch +\d", found.stdout, re.M), found.stdout
    assert found.returncode == int("MEND" in found.stdout)


class Terminal:
    """A `puna` on a pseudo-terminal: type to it, wait for what it shows."""

    def __init__(self, *arguments: str, **more: str) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execve(PUNA, [PUNA, *arguments], {**ENVIRONMENT, "TERM": "xterm", **more})
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Until `text` is shown; what came before it is forgotten."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            if not self._read(deadline - time.monotonic()):
                pytest.fail(f"{text!r} was not shown, but {self.shown!r}")
        self.shown = self.shown.split(text, 1)[1]

    def end(self, seconds: float = 60) -> int:
        deadline = time.monotonic() + seconds
        while self._read(deadline - time.monotonic()):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self, seconds: float) -> bool:
        if seconds <= 0 or not select.select([self._fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


@pytest.fixture
def elsewhere() -> Iterator[str]:
    slow = ScriptedModel(
        lambda asked: "word " * 500 if asked.messages[-1].text == "long" else echo(asked),
        delay=0.02,
    )
    with background(create_app({"scripted": slow})) as url:
        yield url


def test_chat_on_a_terminal_streams_stops_and_remembers(elsewhere: str, tmp_path: Path) -> None:
    terminal = Terminal("chat", elsewhere, XDG_STATE_HOME=str(tmp_path))
    terminal.wait_for("/help lists")
    terminal.wait_for("> ")
    terminal.type("good morning\n")
    terminal.wait_for("good morning")
    terminal.wait_for("good morning")
    terminal.type("long\n")
    terminal.wait_for("word word")
    terminal.type("\x03")
    terminal.wait_for("...")
    terminal.type("/nothing\n")
    terminal.wait_for("there is no /nothing")
    terminal.wait_for("> \x1b[0m")
    time.sleep(0.5)  # readline shows its prompt a moment before it listens
    terminal.type("\x03")
    terminal.wait_for("> ")
    terminal.type("\x04")
    assert terminal.end() == 0
    history = (tmp_path / "puna" / "history").read_text()
    assert "good morning" in history


def test_what_a_model_says_cannot_steer_the_terminal(tmp_path: Path) -> None:
    evil = ScriptedModel("\x1b]0;owned\x07safe \x1b[2Jtext")
    with background(create_app({"scripted": evil})) as url:
        terminal = Terminal("ask", "-m", url, "hello", XDG_STATE_HOME=str(tmp_path))
        assert terminal.end() == 0
    assert "safe [2Jtext" in terminal.shown
    assert "\x1b]0" not in terminal.shown


def test_a_server_that_is_gone_is_one_line() -> None:
    done = puna("ask", "-m", "http://127.0.0.1:9", "hello")
    assert done.returncode == 1
    assert done.stderr.startswith("puna: Cannot connect to http://127.0.0.1:9")
    assert done.stderr.count("\n") == 1
