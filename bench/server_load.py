"""Sixteen clients stream from `puna serve`, and from llama.cpp's server, taking turns.

    python -m bench.server_load [--clients 16] [--rounds 3] [--tokens 64]

Both serve the same GGUF file over HTTP on loopback, two threads, greedy. Each client sends a prompt
of its own of about 150 tokens as a chat (as many more words for the one whose template is shorter
that both compute as many tokens) and reads the answer as it comes. Told are all tokens of
the answers a second, from the first request to the last token (so prefill counts), and the 95th
percentile of the times between two pieces of text of one answer. Peak memory is that of each
server's process at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2

from bench import checkpoints, peers
from bench.rows import FILES, PUNA, Row, record

COMMAND = "from puna.cli.main import main; main()"
WORDS_EACH = 100
WORDS = ("grass", "wind", "rain", "stone", "river", "cloud", "salt", "sun", "night", "water")


def asking(number: int, words: int, tokens: int) -> dict[str, Any]:
    text = " ".join(random.Random(number).choices(WORDS, k=words))
    return {
        "model": "random",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def prompt_tokens(url: str, words: int) -> int:
    body = {**asking(0, words, 1), "stream": False}
    del body["stream_options"]
    answer = httpx2.post(url + "/v1/chat/completions", json=body, timeout=120)
    return answer.raise_for_status().json()["usage"]["prompt_tokens"]


async def client(http: httpx2.AsyncClient, body: dict[str, Any]) -> tuple[int, list[float]]:
    """Tokens of the answer, and the moments at which its pieces came."""
    moments: list[float] = []
    counted = 0
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            if any(choice["delta"].get("content") for choice in chunk["choices"]):
                moments.append(time.perf_counter())
            if chunk.get("usage"):
                counted = chunk["usage"]["completion_tokens"]
    return counted, moments


async def load(url: str, clients: int, words: int, tokens: int, seed: int) -> tuple[float, float]:
    """Tokens a second of all together, and p95 of the seconds between two pieces."""
    limits = httpx2.Limits(max_connections=clients)
    async with httpx2.AsyncClient(base_url=url, timeout=600, limits=limits) as http:
        started = time.perf_counter()
        answers = await asyncio.gather(
            *(client(http, asking(seed * clients + n, words, tokens)) for n in range(clients))
        )
        seconds = time.perf_counter() - started
    gaps = [
        later - sooner for _, moments in answers for sooner, later in itertools.pairwise(moments)
    ]
    return sum(counted for counted, _ in answers) / seconds, statistics.quantiles(gaps, n=20)[-1]


@contextmanager
def serving(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ}
    )
    try:
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                break
            time.sleep(0.5)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def peak(process: subprocess.Popen[bytes]) -> str:
    status = Path(f"/proc/{process.pid}/status").read_text()
    values = dict(line.split(":", 1) for line in status.splitlines())
    return f"{int(values['VmHWM'].split()[0]) / 1e3:.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    peers.install()
    file = str(checkpoints.gguf_checkpoint(FILES, "1B", "Q4_0"))
    threads = str(len(os.sched_getaffinity(0)))
    context = 512  # of each client
    ports = [free_port() for _ in range(3 if peers.without_amx() else 2)]
    ours = [
        sys.executable,
        "-c",
        COMMAND,
        "serve",
        file,
        "--port",
        str(ports[0]),
        "--alias",
        f"random={Path(file).stem}",
    ]
    theirs = [
        *(str(peers.LLAMA_CPP / "llama-server"), "-m", file),
        *("-t", threads, "-np", str(options.clients), "-c", str(context * options.clients)),
        *("-lm", "none", "--no-webui", "--no-jinja", "--chat-template", "llama3", "--port"),
    ]
    kv = context * options.clients * 32768
    ours += ["--kv-memory", str(kv)]
    commands = {PUNA: ours, "llama-server": [*theirs, str(ports[1])]}
    if before := peers.without_amx():
        commands["llama-server, without AMX"] = [*before, *theirs, str(ports[2])]
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    with ExitStack() as stack:
        servers = [
            stack.enter_context(serving(command, port))
            for command, port in zip(commands.values(), ports, strict=True)
        ]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        first_words = [prompt_tokens(url, WORDS_EACH) for url in urls]
        words = [WORDS_EACH + max(first_words) - each for each in first_words]
        print(
            f"prompts of {[prompt_tokens(*each) for each in zip(urls, words, strict=True)]} tokens"
        )
        for number in range(1, options.rounds + 2):
            for name, url, many in zip(taken, urls, words, strict=True):
                if number == 1:
                    asyncio.run(load(url, 2, many, 4, number))  # warms up
                else:
                    told = asyncio.run(load(url, options.clients, many, options.tokens, number))
                    taken[name].append(told)
        memory = dict(zip(taken, map(peak, servers), strict=True))
    for at, (what, unit, target) in enumerate(
        (("tokens/s of all", "tokens/s", 2.5), ("p95 between pieces", "ms", 1.0))
    ):
        rates = {
            name: [told[at] * (1000 if at else 1) for told in rounds]
            for name, rounds in taken.items()
        }
        record(
            [
                Row(
                    "server load",
                    f"{options.clients} clients, {what}",
                    rates,
                    unit,
                    target,
                    bool(at),
                )
            ]
        )
    print(f"peak memory of the servers: {memory}")


if __name__ == "__main__":
    main()
