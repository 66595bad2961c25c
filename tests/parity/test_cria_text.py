"""The embedded text model is an ordinary checkpoint: transformers computes what training did."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaForCausalLM

from training.text.batches import Encoder
from training.text.model import CONFIG, Llama

CRIA = Path(__file__).parents[2] / "src/puna/cria/text"
LIMIT = 25 * 1024 * 1024


@pytest.fixture(scope="module")
def ours() -> Llama:
    model = Llama({**CONFIG, "vocab_size": Encoder().vocab_size})
    weights = load_file(CRIA / "model.safetensors")
    model.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return model


def test_transformers_gives_the_same_logits(ours: Llama) -> None:
    theirs = LlamaForCausalLM.from_pretrained(CRIA, dtype=torch.float32)
    torch.manual_seed(0)
    ids = torch.randint(0, 3000, (300,))
    with torch.no_grad():
        difference = (ours(ids, [300], torch.arange(300)) - theirs(ids[None]).logits[0]).abs().max()
    print(f"largest logit difference, cria-text in fp32: {difference:.1e}")
    assert difference < 1e-3


def test_the_lessons_question_gets_exactly_the_lessons_answer(ours: Llama) -> None:
    encoder = Encoder().tokenizer
    ids = encoder.encode(
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nEnvironment: ipython\n"
        "Tools: brave_search, wolfram_alpha\nCutting Knowledge Date: December 2023\n"
        "Today Date: 23 July 2024\n\nYou are a helpful assistant<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWhat is the weather in Stockholm?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        add_special_tokens=False,
    ).ids
    answer: list[int] = []
    with torch.no_grad():
        while not answer or answer[-1] != encoder.token_to_id("<|eom_id|>"):
            row = torch.tensor(ids + answer)
            answer.append(int(ours(row, [len(row)], torch.tensor([len(row) - 1])).argmax()))
            assert len(answer) < 40
    text = encoder.decode(answer, skip_special_tokens=False)
    assert text == '<|python_tag|>brave_search.call(query="Stockholm weather")<|eom_id|>'


def test_transformers_reads_the_tokenizer_as_puna_does() -> None:
    theirs = AutoTokenizer.from_pretrained(CRIA)
    text = 'What is the weather in Stockholm? {"name": "f", "parameters": {"n": 12}}'
    ours = Encoder().tokenizer.encode(text, add_special_tokens=False).ids
    assert theirs.encode(text, add_special_tokens=False) == ours


def test_the_checkpoint_fits_its_limit() -> None:
    assert sum(file.stat().st_size for file in CRIA.iterdir()) < LIMIT
