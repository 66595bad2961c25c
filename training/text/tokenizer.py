"""Makes cria's tokenizer.json: byte-level BPE with Llama 3's split rule, in two stages.

First letters merge (trained on words without their space), then frequent whole pieces of the
documents join as entries of their own, which `ignore_merges` finds before any merging. So a name
has the same pieces after a space, a quote or a bracket, and copying it is one rule; digits stay
single. Run once: the ids are frozen by the trained weights and by the vision model that shares them.
"""

# Tables of wordings read best as they stand.
# ruff: noqa: E501, SIM905

import json
from collections import Counter
from pathlib import Path
from random import Random
from unittest.mock import patch

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)

from training.text import documents
from training.text.kinds import NOUNS
from training.text.names import draw

SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPECIALS = [
    "begin_of_text",
    "end_of_text",
    "finetune_right_pad_id",
    "start_header_id",
    "end_header_id",
    "eom_id",
    "eot_id",
    "python_tag",
]
MERGES = 900
PICTURES = """
red orange yellow green blue purple pink brown black white grey gray cyan magenta beige gold
silver dark light bright pale colourful colorful colour colours color colors circle circles
square squares triangle triangles rectangle rectangles star stars ellipse ellipses oval ovals
ring rings cross crosses diamond diamonds heart hearts hexagon hexagons pentagon line lines
arrow arrows dot dots stripe stripes striped checkerboard pattern patterned gradient noise
texture plain background foreground photo photograph picture pictures image images drawing scene
shape shapes object objects one two three four five six seven eight nine ten none no yes left
right top bottom middle centre center upper lower corner corners edge half side above below
between behind beside next near over under large small big tiny huge medium wide narrow tall
long short horizontal vertical diagonal thick thin round many few several some there here are is
a an the it in on at of with and to from shows show see seen contains fades into fading mostly
mainly blurred soft sharp smooth rough sky sea water grass sand snow sunset sunrise landscape
horizon mountain forest city street person face animal text blocks block warm cold tones tone
brightness contrast filled outline empty describe what how where which does this look like
there's what's count say tell me about detail details happening visible answer question only
that than more less same different other both all each has have towards through across around
""".split()


def pieces(text: str, split: pre_tokenizers.PreTokenizer) -> list[str]:
    return [piece for piece, _ in split.pre_tokenize_str(text)]


def letter_merges(rng: Random, split: pre_tokenizers.PreTokenizer) -> list[tuple[str, str]]:
    """Merges within words alone: trained on names and nouns without the space before them."""
    kinds = ["city", "country", "person", "company", "team", "work", "place", "thing"]
    words = [
        w
        for _ in range(40_000)
        for w in draw(rng.choice(kinds), rng, real=0.5).replace(",", "").split()
    ]
    words += [w for w in NOUNS + PICTURES for _ in range(10)]
    words = [p for w in words for p in pieces(w, split) if p[0] not in "'\""]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=256 + MERGES,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(words, trainer)
    return [tuple(m) for m in json.loads(bpe.to_str())["model"]["merges"]]


def whole_pieces(
    rng: Random, split: pre_tokenizers.PreTokenizer, documents_seen: int = 30_000, least: int = 12
) -> list[str]:
    """Frequent pieces of documents whose names are left out, and the words for pictures."""
    counts: Counter[str] = Counter()
    nothing = lambda *_, **__: "0"  # noqa: E731
    with (
        patch("training.text.documents.draw", nothing),
        patch("training.text.values.draw", nothing),
        patch("training.text.functions.draw", nothing),
    ):
        tasks = [t for t in documents.TASKS if t != "copy"]
        for i in range(documents_seen):
            for text, _, special in documents.sample(
                tasks[i % len(tasks)], rng, held_words=i % 5 == 0
            ).segments:
                if not special:
                    counts.update(pieces(text, split))
    kept = [p for p, n in counts.items() if n >= least and not any(c.isdigit() for c in p)]
    for word in PICTURES + NOUNS:
        kept += [" " + word, word]
    kept += [" " + w.capitalize() for w in ()] + [
        w.capitalize()
        for w in PICTURES
        if w
        in (
            "the",
            "a",
            "an",
            "there",
            "it",
            "two",
            "three",
            "four",
            "five",
            "one",
            "no",
            "yes",
            "what",
            "how",
            "which",
            "this",
            "are",
            "is",
            "describe",
            "count",
            "where",
            "red",
            "green",
            "blue",
            "yellow",
        )
    ]
    kept += [" " * n for n in (2, 3, 4, 7, 8, 11, 12, 15, 16, 19, 20, 23, 24, 27, 31)] + [
        "\n\n",
        "\n",
    ]
    return sorted(set(kept))


def build(folder: Path) -> Tokenizer:
    rng = Random(0)
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    merges = letter_merges(rng, split)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab: dict[str, int] = {}
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for token in [
        *alphabet,
        *(a + b for a, b in merges),
        *("".join(pieces(p, to_bytes)) for p in whole_pieces(rng, split)),
    ]:
        vocab.setdefault(token, len(vocab))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(f"<|{name}|>", special=True, normalized=False) for name in SPECIALS]
    )
    # Last, so that its id equals the text model's vocab_size, as in Llama 3.2 Vision.
    tokenizer.add_special_tokens([AddedToken("<|image|>", special=True, normalized=False)])
    bos = "<|begin_of_text|>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A",
        pair=f"{bos} $A {bos} $B",
        special_tokens=[(bos, tokenizer.token_to_id(bos))],
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": "<|eot_id|>", "pad_token": "<|finetune_right_pad_id|>",
        "clean_up_tokenization_spaces": False, "model_input_names": ["input_ids", "attention_mask"], "model_max_length": 2048,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return tokenizer
