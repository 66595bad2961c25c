"""`puna run`: programs with the retired address in them, byte for byte unchanged."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from puna.proxy.certificate import certificates_for
from puna.scripted import ScriptedModel, echo
from puna.server import background, create_app
from puna.settings import Settings

PUNA = str(Path(sys.executable).with_name("puna"))
LESSON_MODEL = "meta-llama-3.1-405b-instruct"
PROXY_VARIABLES = ("proxy", "bundle", "cert_file", "token", "api_key", "extra_ca")

AZURE = """
import os
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import UserMessage
from azure.core.credentials import AzureKeyCredential
client = ChatCompletionsClient(
    endpoint="https://models.inference.ai.azure.com",
    credential=AzureKeyCredential(os.environ["GITHUB_TOKEN"]),
)
answer = client.complete(messages=[UserMessage("I am azure")], model="meta-llama-3.1-405b-instruct")
print(answer.choices[0].message.content)
"""
AZURE_STREAM = """
import os
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import UserMessage
from azure.core.credentials import AzureKeyCredential
client = ChatCompletionsClient(
    endpoint="https://models.github.ai/inference",
    credential=AzureKeyCredential(os.environ["GITHUB_TOKEN"]),
)
answer = client.complete(
    messages=[UserMessage("I am an azure stream")],
    model="meta-llama-3.1-405b-instruct",
    stream=True,
)
print("".join(update.choices[0].delta.content or "" for update in answer))
"""
AZURE_ASYNC = """
import asyncio, os
from azure.ai.inference.aio import ChatCompletionsClient
from azure.ai.inference.models import UserMessage
from azure.core.credentials import AzureKeyCredential
async def main():
    async with ChatCompletionsClient(
        endpoint="https://models.inference.ai.azure.com",
        credential=AzureKeyCredential(os.environ["GITHUB_TOKEN"]),
    ) as client:
        answer = await client.complete(
            messages=[UserMessage("I am azure, async")], model="meta-llama-3.1-405b-instruct"
        )
        print(answer.choices[0].message.content)
asyncio.run(main())
"""
OPENAI = """
import os
from openai import OpenAI
client = OpenAI(base_url="https://models.github.ai/inference", api_key=os.environ["GITHUB_TOKEN"])
answer = client.chat.completions.create(
    messages=[{"role": "user", "content": "I am openai"}], model="meta/meta-llama-3.1-405b-instruct"
)
print(answer.choices[0].message.content)
"""
OPENAI_BY_ENVIRONMENT = """
from openai import OpenAI
answer = OpenAI().chat.completions.create(
    messages=[{"role": "user", "content": "I read OPENAI_BASE_URL"}],
    model="meta-llama-3.1-405b-instruct",
)
print(answer.choices[0].message.content)
"""
REQUESTS = """
import requests
answer = requests.post(
    "https://models.inference.ai.azure.com/chat/completions",
    json={"messages": [{"role": "user", "content": "I am requests"}]},
    headers={"Authorization": "Bearer anything"},
)
print(answer.json()["choices"][0]["message"]["content"])
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    app = create_app({"scripted": ScriptedModel(echo)}, aliases={LESSON_MODEL: "scripted"})
    with background(app) as url:
        yield url


def surroundings(**more: str) -> dict[str, str]:
    """The environment of a user without proxies, bundles and tokens, but for `more`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not any(part in name.lower() for part in PROXY_VARIABLES)
    }
    return {**kept, **more}


def puna_run(
    server: str, *command: str, quiet: bool = True, timeout: float = 60, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PUNA, "run", *(["--quiet"] if quiet else []), "--endpoint", server, "--", *command],
        env=surroundings(**environment),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (AZURE, "I am azure"),
        (AZURE_STREAM, "I am an azure stream"),
        (AZURE_ASYNC, "I am azure, async"),
        (OPENAI, "I am openai"),
        (OPENAI_BY_ENVIRONMENT, "I read OPENAI_BASE_URL"),
        (REQUESTS, "I am requests"),
    ],
    ids=["azure", "azure-stream", "azure-async", "openai", "openai-environment", "requests"],
)
def test_a_program_with_the_retired_address_is_answered_unchanged(
    server: str, tmp_path: Path, program: str, said: str
) -> None:
    lesson = tmp_path / "lesson.py"
    lesson.write_text(program)
    done = puna_run(server, sys.executable, "-W", "ignore", str(lesson))
    assert (done.stdout, done.stderr, done.returncode) == (f"{said}\n", "", 0)


def test_no_proxy_of_the_users_own_does_not_defeat_it(server: str) -> None:
    done = puna_run(server, sys.executable, "-c", REQUESTS, NO_PROXY="*", no_proxy=".azure.com")
    assert done.stdout == "I am requests\n", done.stderr


def test_it_says_on_stderr_who_answers(server: str) -> None:
    done = puna_run(server, sys.executable, "-c", "print(1)", quiet=False)
    assert done.stdout == "1\n"
    assert "models.inference.ai.azure.com" in done.stderr
    assert server in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_token_of_the_users_own_reaches_the_program_as_it_is(server: str) -> None:
    show = "import os; print(os.environ['GITHUB_TOKEN'])"
    assert puna_run(server, sys.executable, "-c", show, GITHUB_TOKEN="mine").stdout == "mine\n"
    assert puna_run(server, sys.executable, "-c", show).stdout.strip()


def test_a_server_with_a_key_is_reached_with_it() -> None:
    settings = Settings(api_key="sesame")
    app = create_app(
        {"scripted": ScriptedModel(echo)}, aliases={LESSON_MODEL: "scripted"}, settings=settings
    )
    with background(app) as url:
        done = puna_run(url, sys.executable, "-c", AZURE, PUNA_API_KEY="sesame", GITHUB_TOKEN="old")
        assert done.stdout == "I am azure\n", done.stderr
        done = puna_run(url, sys.executable, "-c", AZURE)
        assert "ClientAuthenticationError" in done.stderr


@pytest.mark.parametrize("code", [0, 1, 2, 42, 255])
def test_the_exit_code_is_the_programs(server: str, code: int) -> None:
    assert puna_run(server, sys.executable, "-c", f"raise SystemExit({code})").returncode == code


def test_a_program_that_dies_of_a_signal_gives_128_and_its_number(server: str) -> None:
    die = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert puna_run(server, sys.executable, "-c", die).returncode == 128 + 9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_reaches_the_program_and_its_answer_to_it_is_ours(
    server: str, number: signal.Signals
) -> None:
    wait = (
        "import signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\n"
        "time.sleep(30)\n"
    )
    puna = subprocess.Popen(
        [PUNA, "run", "--endpoint", server, "--", sys.executable, "-c", wait],
        env=surroundings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert puna.stdout is not None
        assert puna.stdout.readline() == b"ready\n"
        puna.send_signal(number)
        assert puna.wait(20) == 7
    finally:
        puna.kill()
        puna.communicate()


def test_standard_input_is_the_programs(server: str) -> None:
    done = subprocess.run(
        [PUNA, "run", "-q", "--endpoint", server, "--", "cat"],
        env=surroundings(),
        input=b"\x00\xffbytes",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == b"\x00\xffbytes"


def test_options_after_the_program_are_the_programs_own(server: str) -> None:
    show = "import sys; print(sys.argv[1:])"
    done = puna_run(server, sys.executable, "-c", show, "--endpoint", "x", "-q", "--")
    assert done.stdout == "['--endpoint', 'x', '-q', '--']\n"


def test_nothing_is_left_behind(server: str, tmp_path: Path) -> None:
    show = "import os; print(os.environ['SSL_CERT_FILE'])"
    done = puna_run(server, sys.executable, "-c", show, TMPDIR=str(tmp_path))
    assert done.stdout.startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_no_private_key_is_on_disk_while_the_program_runs(server: str, tmp_path: Path) -> None:
    search = (
        "import pathlib, sys\n"
        f"files = [each for each in pathlib.Path({str(tmp_path)!r}).rglob('*') if each.is_file()]\n"
        "print(len(files) > 0, any(b'PRIVATE KEY' in each.read_bytes() for each in files))\n"
    )
    done = puna_run(server, sys.executable, "-c", search, TMPDIR=str(tmp_path))
    assert done.stdout == "True False\n"


@pytest.mark.parametrize(
    ("mode", "code", "said"),
    [
        (None, 127, "is not there: no such program"),
        (0o644, 126, "is not an executable file"),
        (0o755, 126, "cannot be started: exec format error"),
    ],
    ids=["missing", "not-executable", "no-program"],
)
def test_a_program_that_cannot_be_started_is_named(
    server: str, tmp_path: Path, mode: int | None, code: int, said: str
) -> None:
    program = tmp_path / "program"
    if mode is not None:
        program.write_bytes(b"\x00\x01")
        program.chmod(mode)
    done = puna_run(server, str(program))
    assert (done.returncode, done.stderr) == (code, f"puna: {program} {said}\n")


def test_a_program_that_refuses_the_certificate_is_explained(server: str) -> None:
    program = (
        "import certifi, requests\n"
        "try:\n"
        "    requests.get('https://models.github.ai/', verify=certifi.where())\n"
        "except requests.exceptions.SSLError:\n"
        "    print('refused')\n"
    )
    done = puna_run(server, sys.executable, "-c", program)
    assert done.stdout == "refused\n"
    assert "refused the certificate" in done.stderr


class Elsewhere:
    """The world beyond: a proxy that leads every host to one TLS server, `elsewhere.example`."""

    def __init__(self, folder: Path) -> None:
        occasion = certificates_for(["elsewhere.example"])
        self.bundle = folder / "corporate.pem"
        self.bundle.write_bytes(occasion.authority)
        self.asked: list[str] = []
        self._context = occasion.context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def proxy(self) -> str:
        return f"http://me:secret@127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += connection.recv(1)
                self.asked.append(head.decode())
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                with self._context.wrap_socket(connection, server_side=True) as tls:
                    tls.recv(65536)
                    body = b"from elsewhere"
                    tls.sendall(
                        b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
                        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
                    )


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    world = Elsewhere(tmp_path)
    yield world
    world.close()


def test_other_hosts_pass_untouched_through_the_users_own_proxy_and_trust(
    server: str, elsewhere: Elsewhere
) -> None:
    """The program sees the other host's own certificate, for which the user's bundle vouches."""
    program = (
        "import requests\n"
        "print(requests.get('https://elsewhere.example/').text)\n"
        "print(requests.post('https://models.github.ai/inference/chat/completions',"
        " json={'messages': [{'role': 'user', 'content': 'and here'}]})"
        ".json()['choices'][0]['message']['content'])\n"
    )
    done = puna_run(
        server,
        sys.executable,
        "-c",
        program,
        HTTPS_PROXY=elsewhere.proxy,
        REQUESTS_CA_BUNDLE=str(elsewhere.bundle),
    )
    assert done.stdout == "from elsewhere\nand here\n", done.stderr
    [head] = elsewhere.asked
    assert head.startswith("CONNECT elsewhere.example:443 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic bWU6c2VjcmV0\r\n" in head


def test_a_host_that_cannot_be_reached_is_a_502_and_harms_nothing(server: str) -> None:
    program = (
        "import requests\n"
        "try:\n"
        "    requests.get('https://nowhere.invalid/')\n"
        "except requests.exceptions.ProxyError as error:\n"
        "    print('502' in str(error))\n" + REQUESTS
    )
    done = puna_run(server, sys.executable, "-c", program)
    assert done.stdout == "True\nI am requests\n", done.stderr


def test_a_client_that_goes_away_stops_the_work() -> None:
    model = ScriptedModel("word " * 2000, delay=0.02)
    program = (
        "import requests\n"
        "answer = requests.post('https://models.github.ai/inference/chat/completions', stream=True,"
        " json={'stream': True, 'messages': [{'role': 'user', 'content': 'go on'}]})\n"
        "print(next(answer.iter_lines())[:5])\n"
    )
    with background(create_app({"scripted": model})) as url:
        assert puna_run(url, sys.executable, "-c", program).stdout == "b'data:'\n"
        deadline = time.monotonic() + 5
        while model.running and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (model.running, model.cancelled) == (0, 1)


def test_temporary_files_are_private(server: str) -> None:
    show = (
        "import os, stat\n"
        "folder = os.path.dirname(os.environ['SSL_CERT_FILE'])\n"
        "print(stat.S_IMODE(os.stat(folder).st_mode))\n"
    )
    done = puna_run(server, sys.executable, "-c", show, TMPDIR=tempfile.gettempdir())
    assert done.stdout == f"{0o700}\n"
