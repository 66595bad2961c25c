"""What training computes is what Puna computes: the decoder of `training.vision` and `Llama`.

`Llama` itself is held to Meta's reference in test_vision_model_parity.py; so is, through it, cria.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from puna.llama.images import PreparedImage
from puna.llama.load import load_llama
from puna.llama.model import Llama
from puna.llama.weights import open_checkpoint
from tests.parity.conftest import Measure
from tests.tiny_models import logits_of, tiny_llama
from training.vision.data import Maker, Words
from training.vision.export import FOLDER
from training.vision.model import VISION, CriaVision, config
from training.vision.train import TOKENIZER

LIMIT = 25 * 1024 * 1024
WORDS = Words(TOKENIZER)
SEEDS = (60, 61, 62, 63, 78, 90, 93)


def exported(name: str) -> str:
    return name.replace("language_model.", "")


def as_puna(model: CriaVision) -> Llama:
    ours = Llama(model.config)
    ours.load_state_dict({exported(n): t for n, t in model.state_dict().items()})
    return ours.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def random_model() -> CriaVision:
    """Training's model with the open gates and unit gains of the tiny test models."""
    model = CriaVision(config(WORDS.vocab_size))
    source = tiny_llama(model.config).state_dict()
    model.load_state_dict({n: source[exported(n)] for n in model.state_dict()})
    return model.eval().requires_grad_(False)


def both(
    model: CriaVision, ours: Llama, seeds: Sequence[int]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(ours, training's) logits of every conversation of some rows: each alone with its prefix in
    Puna, all together in one row in training."""
    maker = Maker(WORDS, VISION)
    out: list[tuple[torch.Tensor, torch.Tensor]] = []
    for seed in seeds:
        batch = maker.batch(seed, 1)
        with torch.inference_mode():
            _, image = model.see(batch.pixels, batch.ratio, batch.tiles)
            hidden = model.read(
                batch.tokens, batch.positions, batch.branches, batch.sees, image, batch.tiles
            )
            theirs = model.language_model.lm_head(hidden)[0]
        picture = PreparedImage(batch.pixels[0], int(batch.ratio), int(batch.tiles), b"")
        branches = batch.branches[0]
        for branch in range(1, int(branches.max()) + 1):
            rows = torch.nonzero((branches == 0) | (branches == branch))[:, 0]
            ids = batch.tokens[0, rows].tolist()
            images = [picture] if WORDS.vocab_size in ids else []
            out.append((logits_of(ours, ids, images), theirs[rows]))
    return out


def test_conversations_packed_in_one_row_give_what_each_gives_alone_in_puna(
    random_model: CriaVision, measure: Measure
) -> None:
    pairs = both(random_model, as_puna(random_model), SEEDS)
    assert len(pairs) > 10
    ours, theirs = (torch.cat(side) for side in zip(*pairs, strict=True))
    measure("cria-vision: training's decoder, random weights", ours, theirs, 1e-3)
    assert theirs.std() > 0.5


def test_rows_hold_images_before_and_after_the_text_and_none_at_all() -> None:
    """Or the test above would leave cases out."""
    maker, kinds = Maker(WORDS, VISION), set[str]()
    for seed in SEEDS:
        row = maker.batch(seed, 1)
        places = (row.tokens[0] == WORDS.vocab_size).nonzero()[:, 0].tolist()
        kinds.add("none" if not places else "after" if row.branches[0, places[0]] else "before")
    assert kinds == {"none", "after", "before"}


needs_weights = pytest.mark.skipif(
    not (FOLDER / "model.safetensors").exists(), reason="cria-vision is not trained yet"
)


@needs_weights
def test_the_packaged_model_in_puna_computes_what_training_computed(measure: Measure) -> None:
    model = CriaVision(config(WORDS.vocab_size)).eval().requires_grad_(False)
    weights = load_file(FOLDER / "model.safetensors")
    model.load_state_dict({name: weight.float() for name, weight in weights.items()})
    ours = load_llama(open_checkpoint(FOLDER))
    pairs = both(model, ours, range(100, 106))
    left, right = (torch.cat(side) for side in zip(*pairs, strict=True))
    measure("cria-vision: the packaged weights", left, right, 1e-3)


@needs_weights
def test_the_packaged_model_fits_its_limit_and_is_greedy() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < LIMIT
    checkpoint = open_checkpoint(FOLDER)
    ids: dict[str, Any] = {"bos_token_id": checkpoint.config.bos_token_id}
    ids["eos_token_ids"] = checkpoint.config.eos_token_ids
    assert checkpoint.config == replace(config(WORDS.vocab_size), **ids)
    assert set(checkpoint.config.eos_token_ids) >= {WORDS.special("eot_id")}
    assert checkpoint.generation.temperature == 0


@needs_weights
def test_the_model_shares_the_text_models_tokenizer() -> None:
    assert (FOLDER / "tokenizer.json").read_bytes() == Path(TOKENIZER).read_bytes()
