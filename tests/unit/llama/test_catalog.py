"""The catalog against llama.md's table and the names that were ever served."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from puna.llama.catalog import CATALOG, find, footprint, would_fit
from puna.llama.model import Llama
from puna.llama.shapes import count_parameters, tensor_shapes

# name, parameters (billions, as rounded in the table), KV bytes a token in bf16, MB an image
TABLE = [
    ("Llama-3.1-8B-Instruct", "8.03", 131072, 0),
    ("Llama-3.1-70B-Instruct", "70.55", 327680, 0),
    ("Llama-3.1-405B-Instruct", "405.85", 516096, 0),
    ("Llama-3.2-1B-Instruct", "1.236", 32768, 0),
    ("Llama-3.2-3B-Instruct", "3.213", 114688, 0),
    ("Llama-3.2-11B-Vision-Instruct", "10.67", 131072, 212),
    ("Llama-3.2-90B-Vision-Instruct", "88.59", 327680, 530),
]
SERVED = [
    "Meta-Llama-3-8B-Instruct",
    "Meta-Llama-3-70B-Instruct",
    "Meta-Llama-3.1-8B-Instruct",
    "Meta-Llama-3.1-70B-Instruct",
    "Meta-Llama-3.1-405B-Instruct",
    "Llama-3.2-11B-Vision-Instruct",
    "Llama-3.2-90B-Vision-Instruct",
    "Llama-3.3-70B-Instruct",
    "Llama-4-Scout-17B-16E-Instruct",
    "Llama-4-Maverick-17B-128E-Instruct-FP8",
]


@pytest.mark.parametrize(("name", "billions", "token_bytes", "image_mb"), TABLE)
def test_each_variant_weighs_and_caches_what_the_table_says(
    name: str, billions: str, token_bytes: int, image_mb: int
) -> None:
    model = find(name)
    assert model is not None
    assert model.config is not None
    digits = len(billions.split(".")[1])
    assert f"{count_parameters(model.config) / 1e9:.{digits}f}" == billions
    needs = footprint(model.config)
    assert needs.token == token_bytes
    assert round(needs.image / 1e6) == image_mb
    assert needs.weights == 2 * count_parameters(model.config)


@pytest.mark.parametrize("name", [name for name, *_ in TABLE])
def test_each_variant_has_the_tensors_of_transformers_model_by_name_and_shape(name: str) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM, MllamaConfig
    from transformers import MllamaForConditionalGeneration as Mllama

    from tests.checkpoints import hf_config, hf_name

    model = find(name)
    assert model is not None
    assert model.config is not None
    published = hf_config(model.config)
    with torch.device("meta"):
        if model.vision:
            theirs = Mllama(MllamaConfig.from_dict(published))
        else:
            theirs = LlamaForCausalLM(LlamaConfig.from_dict(published))
        ours = Llama(model.config)
    expected = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    if model.config.tie_word_embeddings:
        del expected["lm_head.weight"]
    wanted = tensor_shapes(model.config)
    assert {hf_name(key, model.config, "v5"): shape for key, shape in wanted.items()} == expected
    assert {key: tuple(value.shape) for key, value in ours.state_dict().items()} == wanted
    assert sum(p.numel() for p in ours.parameters()) == count_parameters(model.config)


@pytest.mark.parametrize("name", SERVED)
def test_every_name_ever_served_is_found_in_any_case_with_or_without_its_publisher(
    name: str,
) -> None:
    model = find(name)
    assert model is not None
    assert model.served
    short = name.removeprefix("Meta-")
    for spelling in (name, short, f"meta/{name}", f"Meta/{short}", f"meta-llama/{short}"):
        for cased in (spelling, spelling.lower(), spelling.upper()):
            assert find(cased) is model
    assert find(model.repository) is model


def test_no_name_outside_the_catalog_is_found() -> None:
    for name in ("", "meta/", "Llama-2-7b", "Llama-3.1-8B-Instruct-extra", "gpt-4o", "meta/meta/x"):
        assert find(name) is None


def test_no_two_entries_answer_to_one_name() -> None:
    assert len({id(find(model.name)) for model in CATALOG}) == len(CATALOG)
    assert sum(model.served for model in CATALOG) == len(SERVED)


def test_llama_4_is_known_by_name_and_has_no_config() -> None:
    for name in SERVED[-2:]:
        model = find(name)
        assert model is not None
        assert model.config is None
        assert model.parameters is None
        assert model not in would_fit(10**15)


def test_what_would_fit_counts_weights_and_context_and_puts_the_largest_first() -> None:
    names = [model.name for model in would_fit(20 * 10**9, tokens=8192)]
    assert names[0] == "Meta-Llama-3.1-8B-Instruct"  # 16.06 GB + 8192 tokens of 131072 bytes
    assert "Llama-3.2-11B-Vision-Instruct" not in names  # 21.3 GB of weights
    assert "Llama-3.2-1B-Instruct" in names
    tight = footprint(find("Llama-3.2-1B-Instruct").config).total(8192)  # type: ignore[union-attr,arg-type]
    assert [model.name for model in would_fit(tight)] == ["Llama-3.2-1B-Instruct"]
    assert would_fit(tight - 1) == []
    assert would_fit(0) == []


def test_tokens_that_fit_beside_the_weights_are_never_negative() -> None:
    model = find("Llama-3.2-1B-Instruct")
    assert model is not None
    assert model.config is not None
    needs = footprint(model.config)
    assert needs.tokens_in(needs.weights - 1) == 0
    assert needs.tokens_in(needs.total(100)) == 100
    assert needs.tokens_in(needs.total(100) - 1) == 99


def test_the_catalog_imports_no_torch() -> None:
    code = "import sys, puna.llama.catalog; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_images_are_counted_in_the_pages_of_the_kernels() -> None:
    from puna.kernels import pages
    from puna.llama import catalog

    assert catalog.PAGE == pages.PAGE
