"""Trains cria-vision: `python -m training.vision.train --minutes 95`. One core, seeded, resumable.

Three things are learned at once: the talk (cross-entropy on the answers' tokens), and, as helpers
that are thrown away afterwards, the colour, shape and place that each patch shows. The first steps
are the helpers' alone: they teach the encoder at a third of the price.
Muon for the matrices between layers, AdamW for the rest; the learning rate follows the clock.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.vision import photos, scenes, talk
from training.vision.data import IGNORE, PATCH_COLOURS, SHAPES, Batch, Maker, Words
from training.vision.model import VISION, CriaVision, config
from training.vision.photos import Photo

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = ROOT / "src/puna/cria/text/tokenizer.json"


class Helpers(nn.Module):
    """Reads colour, shape and place off a patch's final features, and off those of the second
    layer where in the patch the thing lies: shapes are learned as shapes, whatever their colour."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.colour = nn.Linear(width, len(PATCH_COLOURS))
        self.shape = nn.Linear(width, 1 + len(SHAPES))
        self.cell = nn.Linear(width, 9)
        self.outline = nn.Linear(width, 49)
        self.rarer = torch.tensor([0.15] + [1.0] * len(SHAPES))

    def forward(self, features: Tensor, batch: Batch) -> tuple[Tensor, list[float]]:
        patches = features[:, :, 1:, : self.width]
        losses, right = [], []
        for name in ("colour", "shape", "cell"):
            target = getattr(batch, name)
            known = target != IGNORE
            logits = getattr(self, name)(patches[known])
            weight = self.rarer if name == "shape" else None
            losses.append(F.cross_entropy(logits, target[known], weight))
            counted = (
                target[known] > 0
                if name == "shape"
                else torch.ones_like(target[known], dtype=torch.bool)
            )
            right.append((logits.argmax(-1) == target[known])[counted].float().mean().item())
        known = batch.shape != IGNORE
        early = features[:, :, 1:, self.width :].unflatten(-1, (self.width, -1))[known][..., 1]
        drawn = batch.outline[known].float()
        traced = self.outline(early)
        losses.append(4 * F.binary_cross_entropy_with_logits(traced, drawn))
        agree = ((traced > 0) == (drawn > 0))[drawn.any(-1)]
        return torch.stack(losses).sum(), [*right, agree.float().mean().item()]


class Head:
    """Cross-entropy over the words that answers are made of and a sample of all others.

    The full vocabulary would take a third of each step, and all but some 150 of its 3,381 tokens
    never occur. The sampled ones stand for the rest: their logits are raised by the log of how many
    each stands for, so that the sum of the softmax is estimated without bias.
    """

    def __init__(self, words: Words, sampled: int = 160) -> None:
        rng = Random(0)
        seen = {words.special("eot_id"), *words.encode(talk.NO_IMAGE)}
        for word in (*talk.NUMBERS[:7], *talk.PLURALS, *talk.PLURALS.values(), *PATCH_COLOURS):
            seen.update(words.encode(f" {word}"))
        for _ in range(3000):
            scene = scenes.sample(rng)
            colours = (rng.choice(photos.NAMES), rng.choice(photos.NAMES), rng.choice(photos.NAMES))
            for subject in (scene, Photo(colours, rng.random() < 0.5)):
                seen.update(words.encode(talk.describe(subject)))
                seen.update(words.encode(talk.question(subject, rng)[2]))
        self.known = torch.tensor(sorted(seen))
        others = torch.ones(words.vocab_size, dtype=torch.bool)
        others[self.known] = False
        self.others = others.nonzero()[:, 0]
        self.sampled = sampled
        self.place = torch.full((words.vocab_size,), -1)
        self.place[self.known] = torch.arange(len(self.known))

    def loss(self, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        places = self.place[targets]
        assert (places >= 0).all(), "an answer holds a word that the sample of answers lacked"
        extra = self.others[torch.randint(len(self.others), (self.sampled,))]
        logits = hidden @ weight[torch.cat([self.known, extra])].T
        raise_by = torch.zeros(logits.shape[1])
        raise_by[len(self.known) :] = math.log(len(self.others) / self.sampled)
        return F.cross_entropy(logits + raise_by, places)


class Muon:
    """Momentum, made orthogonal by five Newton-Schulz steps (Jordan et al., 2024), in stacks."""

    def __init__(self, parameters: list[nn.Parameter], momentum: float = 0.95) -> None:
        self.parameters, self.momentum = parameters, momentum
        self.buffers = [torch.zeros_like(p) for p in parameters]
        self.stacks: dict[tuple[int, int], list[int]] = {}
        for index, p in enumerate(parameters):
            rows, columns = p.shape[0], p[0].numel()
            self.stacks.setdefault((min(rows, columns), max(rows, columns)), []).append(index)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        for members in self.stacks.values():
            updates: list[Tensor] = []
            for index in members:
                p, buffer = self.parameters[index], self.buffers[index]
                assert p.grad is not None
                buffer.lerp_(p.grad, 1 - self.momentum)
                update = p.grad.lerp(buffer, self.momentum).flatten(1)
                updates.append(update if update.shape[0] <= update.shape[1] else update.T)
            x = torch.stack(updates)
            x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
            for _ in range(5):
                a = x @ x.mT
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            for index, update in zip(members, x, strict=True):
                p = self.parameters[index]
                rows, columns = p.shape[0], p[0].numel()
                update = update if rows <= columns else update.T
                p.mul_(1 - lr * 0.02)
                p.add_(update.reshape(p.shape), alpha=-lr * max(1.0, rows / columns) ** 0.5)


def split(model: CriaVision) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    matrices, rest = [], []
    for name, parameter in model.named_parameters():
        inner = ".layers." in name or "projector" in name or "patch_embedding" in name
        (matrices if inner and parameter.dim() >= 2 else rest).append(parameter)
    return matrices, rest


def learning_rate(done: float) -> float:
    """Of the whole time, as a fraction: a short rise, level to 0.55, then down to nothing."""
    if done < 0.01:
        return 0.1 + 90 * done
    return 1.0 if done < 0.55 else max(0.0, (1 - done) / 0.45)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=95)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--alone", type=int, default=700, help="first steps for the helpers alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--muon", type=float, default=0.02)
    parser.add_argument("--adam", type=float, default=2e-3)
    parser.add_argument("--run", type=Path, default=ROOT / "training/runs/vision")
    parser.add_argument("--stop", type=int, default=0, help="stop after so many steps (for trials)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    args.run.mkdir(parents=True, exist_ok=True)
    words = Words(TOKENIZER)
    model = CriaVision(config(words.vocab_size))
    helpers = Helpers(VISION.hidden_size)
    matrices, rest = split(model)
    muon = Muon(matrices)
    adam = torch.optim.AdamW(
        [*rest, *helpers.parameters()], lr=args.adam, betas=(0.9, 0.95), weight_decay=0.0
    )
    average = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    step, spent, images = 0, 0.0, 0
    checkpoint = args.run / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        helpers.load_state_dict(saved["helpers"])
        adam.load_state_dict(saved["adam"])
        muon.buffers = saved["muon"]
        average = saved["average"]
        step, spent, images = saved["step"], saved["spent"], saved["images"]
    maker, head = Maker(words, VISION), Head(words)
    log = (args.run / "log.jsonl").open("a")
    sums = [0.0] * 6
    counted, last_saved, mark = 0, time.monotonic(), time.monotonic()

    def save() -> None:
        state = {
            "model": model.state_dict(),
            "helpers": helpers.state_dict(),
            "adam": adam.state_dict(),
            "muon": muon.buffers,
            "average": average,
            "step": step,
            "spent": spent,
            "images": images,
        }
        torch.save(state, checkpoint.with_suffix(".new"))
        checkpoint.with_suffix(".new").rename(checkpoint)

    while spent < args.minutes * 60 and not (args.stop and step >= args.stop):
        done = spent / (args.minutes * 60)
        rate = learning_rate(done)
        alone = step < args.alone
        batch = maker.batch(args.seed * 1_000_003 + step, args.batch, talk_too=not alone)
        features, image = model.see(batch.pixels, batch.ratio, batch.tiles)
        helped, right = helpers(features, batch)
        loss = helped * (1.0 if alone else 0.3 * min(1.0, max(0.1, 1.8 * (1 - done))))
        spoken = torch.zeros(())
        if not alone:
            hidden = model.read(
                batch.tokens, batch.positions, batch.branches, batch.sees, image, batch.tiles
            )
            wanted = batch.targets != IGNORE
            weight = model.language_model.lm_head.weight
            spoken = head.loss(hidden[wanted], weight, batch.targets[wanted])
            loss = loss + spoken
        for parameter in (*model.parameters(), *helpers.parameters()):
            parameter.grad = None
        loss.backward()
        for parameter in model.parameters():  # the decoder has none while the helpers are alone
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        nn.utils.clip_grad_norm_(rest, 1.0)
        muon.step(args.muon * rate)
        for group in adam.param_groups:
            group["lr"] = args.adam * rate
        adam.step()
        keep = min(0.99, 1 - 1 / (1 + step / 10))
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                average[name].lerp_(tensor, 1 - keep)
        step, images, counted = step + 1, images + args.batch, counted + 1
        now = time.monotonic()
        spent, mark = spent + now - mark, now
        sums = [s + v for s, v in zip(sums, (spoken.item(), helped.item(), *right), strict=True)]
        if step % 50 == 0:
            names = ("spoken", "helped", "patch_colour", "patch_shape", "patch_cell", "outline")
            line = {
                "step": step,
                "minutes": round(spent / 60, 2),
                "images": images,
                "rate": round(rate, 3),
            }
            line |= {
                n: round(s / counted, 4)
                for n, s in zip(names, sums, strict=True)
                if not math.isnan(s)
            }
            print(json.dumps(line), file=log, flush=True)
            sums, counted = [0.0] * 6, 0
        if now - last_saved > 120:
            save()
            last_saved = now
    save()


if __name__ == "__main__":
    main()
