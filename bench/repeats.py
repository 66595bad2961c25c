"""Decode at batch 1 on texts that repeat their prompt: with guessing and without.

    python -m bench.repeats [--texts edit summary tool story] [--rounds 5]

A model of random weights repeats nothing, so the texts are given: an edit of a program, a summary
of minutes, an answer from a tool's result, and a story that repeats nothing, each a prompt and an
answer in `bench/texts`. The model of the true shape computes every row; then, and only then, the
logit of the token that stands in the answer at that place is made the greatest. So what is guessed
right is decided by a real text in Llama 3's real tokens, and what a step costs by the real shape.
The texts were written for this bench, not by a model: they repeat what a careful writer repeats.

Taking turns, round by round: the same engine with and without speculation, which begins each round
without experience, and llama.cpp saying the same tokens of the same file, without guessing and with
each n-gram speculation of its own that `--guessers` names, with its defaults (`llamacpp.cpp`).
Told is the answer's speed from its first token to its last. The prompt is cached on both sides.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch
from torch import Tensor

from bench.checkpoints import gguf_checkpoint
from bench.engines import Running, llama_cpp, running
from bench.loading import loaded, terms
from bench.rows import FILES, PUNA, Row, record
from puna.engine.engine import Engine, EngineLimits
from puna.engine.sequence import Emitted, Outcome, Prompt, SamplingParams
from puna.engine.speculation import Speculation
from puna.kernels import native
from puna.llama.batch import Batch
from puna.llama.cache import KVCache
from puna.llama.model import Llama
from puna.llama.tokenizer import Tokenizer

TEXTS = Path(__file__).parent / "texts"
CONTEXT = 4096
PAGE_SIZE = 16


class Replayed:
    """A model that says `text`, whatever it computes."""

    def __init__(self, model: Llama) -> None:
        self.model = model
        self.text: Tensor = torch.empty(0, dtype=torch.int64)

    def forward(self, batch: Batch, cache: Any) -> Tensor:
        logits = self.model.forward(batch, cache)
        following = self.text[(batch.positions[batch.logit_rows] + 1).clamp(max=len(self.text) - 1)]
        return logits.scatter_(1, following[:, None], 1e6)

    def encode_image(self, image: Any) -> Any:
        return self.model.encode_image(image)


def read(name: str, tokenizer: Tokenizer, answer_tokens: int) -> tuple[list[int], list[int]]:
    prompt, answer = (TEXTS / f"{name}.txt").read_text().split("=== ANSWER ===\n")
    return tokenizer.encode(prompt), tokenizer.encode(answer)[:answer_tokens]


def seconds(engine: Engine, prompt: Sequence[int], answer: Sequence[int]) -> tuple[float, int]:
    """From the answer's first token to its last, and the steps between."""
    times: list[float] = []
    said: list[int] = []

    def outbox(outcome: Outcome) -> None:
        if isinstance(outcome, Emitted):
            times.append(time.perf_counter())
            said.append(outcome.token)

    engine.submit(Prompt(tuple(prompt)), SamplingParams(len(answer), temperature=0), outbox)
    while not said:
        engine.step()
    before = engine.stats().steps
    while engine.step():
        pass
    assert said == list(answer), "another text than the given one"
    return times[-1] - times[0], engine.stats().steps - before


def compare(
    name: str,
    model: Replayed,
    cache: KVCache,
    tokenizer: Tokenizer,
    options: argparse.Namespace,
    peer: Running | None,
) -> None:
    prompt, answer = read(name, tokenizer, options.tokens)
    model.text = torch.tensor([*prompt, *answer])
    limits = EngineLimits(CONTEXT, CONTEXT // PAGE_SIZE, PAGE_SIZE)
    engine = Engine(model, cache, limits)
    seconds(engine, prompt, answer[:2])  # the prompt, which is reused from now on
    guessing: list[float] = []
    plain: list[float] = []
    peers: dict[str, list[float]] = {}
    steps = 0
    with NamedTemporaryFile("w", suffix=".ids") as file:
        print(len(prompt), *prompt, *answer, file=file, flush=True)
        guessers = ["none", *options.guessers] if peer else []
        for number in range(options.rounds):
            for guesser in guessers:
                assert peer
                asked = {"work": "text", "file": file.name, "speculation": guesser}
                if not number and guesser == "none":
                    peer.rate(asked)  # computes the prompt
                peers.setdefault(f"llama.cpp, {guesser}", []).append(peer.rate(asked))
            for taken, speculation in ((plain, None), (guessing, Speculation())):
                engine._speculation = speculation
                spent, steps = seconds(engine, prompt, answer)
                taken.append((len(answer) - 1) / spent)
    print(f"{name}: {(len(answer) - 1) / steps:.2f} tokens a step")
    without = peers.pop("llama.cpp, none", None)
    rows = [Row("repeats", f"{name}, over itself without", {PUNA: guessing, "Puna, none": plain})]
    if without:
        both = {PUNA: guessing, "llama.cpp, none": without}
        rows.append(Row("repeats", f"{name}, over llama.cpp without", both, target=2))
    if peers:
        rows.append(
            Row("repeats", f"{name}, over llama.cpp's own", {PUNA: guessing, **peers}, target=1)
        )
    record(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="decode of texts that repeat their prompt")
    parser.add_argument("--texts", nargs="+", default=["edit", "summary", "tool"])
    parser.add_argument("--threads", type=int, default=native.processors())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=100, help="of the answer, at most")
    parser.add_argument("--guessers", nargs="+", default=["ngram-simple", "ngram-cache"])
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()

    llama, checkpoint = loaded(options.threads)
    cache = KVCache(checkpoint.config, CONTEXT // PAGE_SIZE, PAGE_SIZE, torch.bfloat16)
    print(f"{terms(options.threads)}; median of {options.rounds} rounds", flush=True)
    tokenizer = checkpoint.tokenizer()
    file = gguf_checkpoint(FILES, "1B", "Q4_0")
    with ExitStack() as stack:
        engine = llama_cpp("Q4_0", file, "none", sequences=1, context=2048)
        peer = None if options.no_peer else stack.enter_context(running(engine))
        for name in options.texts:
            compare(name, Replayed(llama), cache, tokenizer, options, peer)


if __name__ == "__main__":
    main()
