"""Trains cria-text: seeded, resumable, one thread. Writes checkpoints and a log to a run folder."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from training.text import accuracy
from training.text.batches import Encoder, batch
from training.text.model import CONFIG, Llama, structured_start
from training.text.optim import Optimizer

# Shares of documents. The first stage is mostly copying, then the tasks; see README.md for why.
WARM_MIX = {
    "call": 0.25,
    "function": 0.06,
    "result": 0.10,
    "passage": 0.10,
    "talk": 0.04,
    "copy": 0.45,
}
MIX = {
    "call": 0.22,
    "function": 0.15,
    "result": 0.20,
    "function_result": 0.06,
    "passage": 0.29,
    "talk": 0.05,
    "copy": 0.03,
}


@dataclass
class Recipe:
    steps: int = 3850
    tokens: int = 3072
    seed: int = 1
    warm: float = 0.08  # share of the steps on WARM_MIX
    decay_steps: int = 2150  # the last steps, with falling learning rate
    evaluate_every: int = 300
    start: Path | None = None  # a finished checkpoint, in place of the structured start
    save_every: int = 100


def rate(step: int, r: Recipe) -> float:
    """The learning rate's factor: 30 steps up, constant, then a line to zero."""
    left = (r.steps - step) / r.decay_steps
    return min(1.0, (step + 1) / 30, max(left, 0.0))


class Average:
    """Exponential average of the weights: what is exported and evaluated."""

    def __init__(self, model: Llama):
        self.model = Llama({**CONFIG, "vocab_size": model.model.embed_tokens.num_embeddings})
        self.model.load_state_dict(model.state_dict())

    @torch.no_grad()
    def update(self, model: Llama, step: int) -> None:
        weight = max(0.005, 1 / (step + 2))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), weight)


def loss_of(
    model: Llama, row: Tensor, lengths: list[int], wanted: Tensor, target: Tensor, weight: Tensor
) -> Tensor:
    loss = F.cross_entropy(model(row, lengths, wanted), target, reduction="none")
    return (loss * weight).sum() / weight.sum()


def train(run: Path, recipe: Recipe) -> None:
    torch.set_num_threads(1)
    run.mkdir(parents=True, exist_ok=True)
    encode = Encoder()
    config = {**CONFIG, "vocab_size": encode.vocab_size}
    model = Llama(config)
    structured_start(model, config, recipe.seed)
    if recipe.start:
        stored = load_file(recipe.start / "model.safetensors")
        model.load_state_dict({name: weight.float() for name, weight in stored.items()})
    optimizer = Optimizer(model)
    average = Average(model)
    step = 0
    checkpoint = run / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.model.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]

    def save() -> None:
        new = checkpoint.with_suffix(".new")
        torch.save(
            {
                "model": model.state_dict(),
                "average": average.model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step,
            },
            new,
        )
        os.replace(new, checkpoint)

    def note(**values: object) -> None:
        line = json.dumps({"step": step, **values})
        print(line, flush=True)
        with (run / "log.jsonl").open("a") as log:
            log.write(line + "\n")

    started, total = time.monotonic(), 0.0
    while step < recipe.steps:
        copying = not recipe.start and step < recipe.steps * recipe.warm
        mix = WARM_MIX if copying else MIX
        loss = loss_of(model, *batch(encode, mix, recipe.seed, step, recipe.tokens))
        loss.backward()
        optimizer.step(rate(step, recipe))
        average.update(model, step)
        total += loss.item()
        step += 1
        if step % 50 == 0:
            note(
                loss=round(total / 50, 4),
                rate=round(rate(step, recipe), 3),
                seconds=round(time.monotonic() - started),
            )
            total = 0.0
        if step % recipe.save_every == 0 or step == recipe.steps:
            save()
        if step % recipe.evaluate_every == 0 or step == recipe.steps:
            note(held_out=accuracy.report(average.model, encode, 100))
