"""What fewer bits cost: the embedded models' accuracies, and how far their logits move.

    python -m bench.quantisation

For each weight format against float32: the share of exact answers on held-out documents and
pictures, given greedily through Puna's engine; and over the right answers to the same documents,
read in one pass with their prompts, the Kullback-Leibler divergence KL(float32 || format) of the
next token (nats, the mean and the 99th percentile of the answers' tokens) and how often both prefer
the same token. Packed models keep keys and values in bf16, as they do when they serve; the rows
"KV int8" keep them in 8 bits, as `--kv int8` does.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from puna.kernels import Format
from puna.llama.cache import KVCache
from puna.llama.images import PreparedImage
from puna.llama.model import Llama
from puna.llama.packing import Packing
from puna.opening import embedded
from tests.tiny_models import PAGE_SIZE, step, views
from training.text.batches import Encoder
from training.text.documents import TASKS
from training.text.evaluate import Generator, accuracy, held_out
from training.vision.evaluate import Answerer, cases, messages_of

SEED = 20_261_124
Kind = tuple[Packing | None, torch.dtype]  # of the weights, and of the cache
EXACT: Kind = (None, torch.float32)


def name_of(kind: Kind) -> str:
    packing, cache = kind
    return (packing or "float32") + (", KV int8" if cache == torch.int8 else "")


@dataclass(frozen=True)
class Document:
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    images: Sequence[PreparedImage] = ()


@dataclass
class Divergence:
    """Of one format: what is gathered over documents, one number a token."""

    nats: list[Tensor]
    same: list[Tensor]

    def words(self) -> str:
        nats, same = torch.cat(self.nats), torch.cat(self.same).double()
        ninety_nine = float(nats.quantile(0.99))
        return f"{nats.mean():.5f} | {ninety_nine:.4f} | {100 * same.mean():.2f} %"


def logits_of(model: Llama, document: Document, cache_dtype: torch.dtype) -> Tensor:
    """Of the tokens of the answer, [tokens, vocab_size]."""
    ids = (*document.prompt, *document.answer)
    pages = torch.arange(-(-len(ids) // PAGE_SIZE))
    cache = KVCache(model.config, len(pages), PAGE_SIZE, cache_dtype)
    with torch.inference_mode():
        (logits,) = step(model, cache, [(ids, 0, pages, views(model, ids, document.images))])
    return logits[len(document.prompt) - 1 : -1].double()


def divergence(
    exact: list[Tensor], model: Llama, documents: list[Document], cache_dtype: torch.dtype
) -> Divergence:
    found = Divergence([], [])
    for expected, document in zip(exact, documents, strict=True):
        got = logits_of(model, document, cache_dtype)
        p, q = expected.log_softmax(-1), got.log_softmax(-1)
        found.nats.append((p.exp() * (p - q)).sum(-1))
        found.same.append(expected.argmax(-1) == got.argmax(-1))
    return found


def text_rows(count: int, kinds: Sequence[Kind]) -> Iterator[list[str]]:
    path = embedded("cria-text")
    encode = Encoder(path / "tokenizer.json")
    tasks = {t: held_out(encode, t, count, seed=SEED) for t in TASKS if t != "copy"}
    documents: list[Document] = [
        Document(case.prompt, case.answer) for found in tasks.values() for case in found[:50]
    ]
    yield ["cria-text", *tasks, "KL mean | KL 99 % | same token"]
    exact: list[Tensor] = []
    for kind in kinds:
        packing, cache = kind
        generate = Generator(path, packing=packing, cache_dtype=cache)
        shares = [f"{100 * accuracy(generate, found)[0]:.1f} %" for found in tasks.values()]
        if kind == EXACT:
            exact = [logits_of(generate.model, document, torch.float32) for document in documents]
            yield ["float32", *shares, "0 | 0 | 100 %"]
        else:
            found = divergence(exact, generate.model, documents, cache)
            yield [name_of(kind), *shares, found.words()]


def vision_rows(count: int, kinds: Sequence[Kind]) -> Iterator[list[str]]:
    path = embedded("cria-vision")
    tested = cases(count, SEED)
    asked = [(messages_of(case), True) for case in tested]
    yield ["cria-vision", "descriptions", "questions", "KL mean | KL 99 % | same token"]
    documents: list[Document] = []
    exact: list[Tensor] = []
    for kind in kinds:
        packing, cache = kind
        answerer = Answerer(path, packing=packing, cache_dtype=cache)
        if kind == EXACT:
            for (messages, _), case in zip(asked, tested, strict=True):
                prompt = answerer.prompt(messages)
                answer = (
                    *answerer.tokenizer.encode(case.answer),
                    answerer.tokenizer.special("<|eot_id|>"),
                )
                images = [image for _, image in prompt.images]
                documents.append(Document(tuple(prompt.token_ids), answer, images))
        said = answerer(asked)
        right = [text == case.answer for text, case in zip(said, tested, strict=True)]
        shares = [f"{100 * sum(part) / len(part):.1f} %" for part in (right[0::2], right[1::2])]
        if kind == EXACT:
            exact = [logits_of(answerer.model, document, torch.float32) for document in documents]
            yield ["float32", *shares, "0 | 0 | 100 %"]
        else:
            found = divergence(exact, answerer.model, documents, cache)
            yield [name_of(kind), *shares, found.words()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100, help="documents of each text task")
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--formats", nargs="+", choices=get_args(Format), default=get_args(Format))
    options = parser.parse_args()
    torch.set_num_threads(1)
    caches = (torch.bfloat16, torch.int8)
    kinds = (EXACT, *((packing, cache) for packing in options.formats for cache in caches))
    print(f"{options.count} documents of each text task, {options.pictures} pictures; held out")
    for rows in (text_rows(options.count, kinds), vision_rows(options.pictures, kinds)):
        for number, cells in enumerate(rows):
            print("| " + " | ".join(cells) + " |", flush=True)
            if number == 0:
                print("|" + "---|" * " | ".join(cells).count("|") + "---|")


if __name__ == "__main__":
    main()
