"""What the engine adds to the model, and the server to the engine: seconds a token.

    python -m bench.server_overhead [--rounds 30] [--tokens 16] [--host]

First the share of the host: `Engine.step` against the `Llama.forward` in it, at 1, 8 and 16, greedy
or drawn (`--host`). Then batch 1: `LocalModel` on an event loop, and HTTP with streaming,
the client a process of its own, each between two measures of the bare engine, whose mean it is
compared with. All on the random 1B shape, speculation off, prompts of the same few tokens; a
token's time is the mean between the first and the last of a short answer, and what is told is the
median of many such ratios with its quartiles, so that a disturbance costs a pair and not the run.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import torch

from bench.loading import checkpoint, loaded, terms, use_threads
from bench.rows import PUNA, Row, record
from puna.chat import ChatRequest, Sampling, message, request
from puna.engine.engine import Engine, EngineLimits
from puna.engine.sequence import Emitted, Outcome, Prompt, SamplingParams
from puna.kernels import native
from puna.llama.cache import KVCache
from puna.local import LocalModel
from puna.server import create_app, listen
from puna.server import serve as serve_app
from puna.settings import Settings

PAGES, PAGE_SIZE = 512, 16
WORDS = "Count from one to a hundred in words."

CLIENT = """
import http.client, json, sys, time
port, tokens, model, words = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
for line in sys.stdin:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/v1/chat/completions", json.dumps({
        "model": model, "messages": [{"role": "user", "content": words}], "stream": True,
        "temperature": 0, "max_tokens": tokens, "stream_options": {"include_usage": True}}))
    response, first, usage = connection.getresponse(), None, None
    for line in response:
        if line.startswith(b"data: {"):
            chunk = json.loads(line[6:])
            usage = chunk.get("usage") or usage
            if chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                first, last = first or time.perf_counter(), time.perf_counter()
            elif chunk["choices"] and first:
                last = time.perf_counter()
    print((last - first) / (usage["completion_tokens"] - 1), flush=True)
"""


def host_share(batch: int, sampling: SamplingParams, model: Any, cache: KVCache) -> str:
    inside = [0.0]

    class Timed:
        def forward(self, rows: Any, where: Any) -> Any:
            start = time.perf_counter()
            logits = model.forward(rows, where)
            inside[0] += time.perf_counter() - start
            return logits

        def encode_image(self, image: Any) -> Any:
            raise NotImplementedError

    engine = Engine(Timed(), cache, EngineLimits(2048, PAGES, PAGE_SIZE))
    for number in range(batch):
        engine.submit(Prompt((number + 5, *range(200, 215))), sampling, lambda outcome: None)
    for _ in range(3):
        engine.step()
    steps, inside[0], start = 12, 0.0, time.perf_counter()
    for _ in range(steps):
        engine.step()
    whole = time.perf_counter() - start
    host = (whole - inside[0]) / steps
    return f"{host * 1e3:.2f} ms of {whole / steps * 1e3:.1f} ms, {host * steps / whole:.1%}"


def host_shares(threads: int) -> None:
    llama, source = loaded(threads)
    cache = KVCache(source.config, PAGES, PAGE_SIZE, torch.bfloat16)
    kinds = {
        "greedy": SamplingParams(40, temperature=0),
        "drawn, temperature 0.6, top_p 0.9": SamplingParams(40, temperature=0.6, top_p=0.9, seed=1),
    }
    for name, sampling in kinds.items():
        for batch in (1, 8, 16):
            share = host_share(batch, sampling, llama, cache)
            print(f"host, batch {batch:>2}, {name}: {share}", flush=True)


def engine_alone(model: LocalModel, asked: ChatRequest) -> float:
    prompt, sampling = model._prepare(asked)
    times: list[float] = []
    done = threading.Event()

    def outbox(outcome: Outcome) -> None:
        if isinstance(outcome, Emitted):
            times.append(time.perf_counter())
        else:
            done.set()

    model._engine.submit(prompt, sampling, outbox)
    done.wait()
    return (times[-1] - times[0]) / (len(times) - 1)


async def local_model(model: LocalModel, asked: ChatRequest) -> float:
    times: list[float] = []
    usage = 0
    async for event in model.stream(asked):
        times.append(time.perf_counter())
        usage = getattr(event, "usage", None) or usage
    return (times[-1] - times[0]) / (usage.completion_tokens - 1)  # pyright: ignore


def main() -> None:
    parser = argparse.ArgumentParser(description="server over engine over model")
    parser.add_argument("--threads", type=int, default=native.processors())
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--host", action="store_true", help="the host's share, too")
    options = parser.parse_args()

    print(terms(options.threads), flush=True)
    if options.host:
        host_shares(options.threads)
    use_threads(options.threads)
    settings = Settings(max_context=8192, speculation="off", port=0)
    model = LocalModel(checkpoint(), settings, name="1B")
    asked = request(
        [message("user", WORDS)], sampling=Sampling(max_tokens=options.tokens, temperature=0)
    )
    ready = threading.Event()
    with listen("127.0.0.1", 0) as listener:
        app = create_app({"1B": model}, aliases={}, settings=settings)
        server = threading.Thread(
            target=lambda: serve_app(app, listener=listener, ready=lambda url: ready.set()),
            daemon=True,
        )
        server.start()
        ready.wait()
        port = str(listener.getsockname()[1])
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, port, str(options.tokens), "1B", WORDS],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert client.stdin is not None
        assert client.stdout is not None

        def served() -> float:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write("\n")
            client.stdin.flush()
            return float(client.stdout.readline())

        bare: list[float] = []
        ways: dict[str, Callable[[], float]] = {
            "LocalModel": lambda: asyncio.run(local_model(model, asked)),
            "server": served,
        }
        for way in ways.values():
            way()
        # engine, other way, engine, other way ...: each stands between two measures of the engine
        over: dict[str, list[float]] = {way: [] for way in ways}
        taken: dict[str, list[float]] = {way: [] for way in ways}
        before = engine_alone(model, asked)
        for _ in range(options.rounds):
            for way, measured in ways.items():
                middle = measured()
                after = engine_alone(model, asked)
                over[way].append(2 * middle / (before + after))
                taken[way].append(1e3 * middle)
                if way == "server":
                    bare.append(1e3 * (before + after) / 2)
                before = after
        client.stdin.close()
        client.wait()
    for way, ratios in over.items():
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{way:<11} {statistics.median(taken[way]):6.1f} ms a token, over the engine "
            f"{middle - 1:+.1%} (quartiles {low - 1:+.1%} to {high - 1:+.1%}, {len(ratios)} pairs)",
            flush=True,
        )
    rates = {PUNA: taken["server"], "bare engine": bare}
    record([Row("server over engine", "batch 1, a token", rates, "ms", 0.97, less=True)])
    model.close()


if __name__ == "__main__":
    main()
