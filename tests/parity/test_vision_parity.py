"""The vision encoder and the image preparation against Meta's reference and transformers."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers.models.mllama.configuration_mllama import MllamaVisionConfig
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.models.mllama.modeling_mllama import MllamaVisionModel

from puna.llama.config import VisionConfig
from puna.llama.images import MEAN, STD, prepare_image
from puna.llama.vision import VisionEncoder
from tests.parity.meta_reference import image_transform
from tests.parity.meta_reference import vision as meta

TOLERANCE = {torch.float32: 2e-3, torch.float16: 0.08, torch.bfloat16: 0.5}
CONFIG = VisionConfig(
    hidden_size=48,
    num_attention_heads=4,
    intermediate_size=192,
    num_hidden_layers=5,
    num_global_layers=2,
    image_size=56,
    patch_size=14,
    intermediate_layers_indices=(0, 1, 3, 4),
)
RATIOS = list(enumerate(CONFIG.supported_aspect_ratios, start=1))


@pytest.fixture(scope="module")
def reference() -> meta.VisionEncoder:
    """Meta's encoder with random weights, gates open so that every part is seen to matter."""
    torch.manual_seed(0)
    encoder = meta.VisionEncoder(
        max_num_tiles=4,
        image_size=CONFIG.image_size,
        patch_size=CONFIG.patch_size,
        width=CONFIG.hidden_size,
        layers=CONFIG.num_hidden_layers,
        heads=CONFIG.num_attention_heads,
        n_global_layers=CONFIG.num_global_layers,
        global_model=True,
        return_intermediate=list(CONFIG.intermediate_layers_indices),
    )
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "gate" in name and "positional_embedding" not in name.split(".")[-1]:
                parameter.fill_(0.7)
            elif name.endswith("gate"):
                parameter.fill_(0.4)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder.eval()


def by_ratio(table: Tensor) -> Tensor:
    """Meta's [4, 4, tokens, width] table as transformers' row a ratio: unused tiles are zeros."""
    rows = torch.zeros(len(RATIOS) + 1, 4, *table.shape[2:])
    for index, (height, width) in RATIOS:
        rows[index, : height * width] = table[:height, :width].reshape(-1, *table.shape[2:])
    return rows.flatten(1)


def canonical(reference: meta.VisionEncoder) -> dict[str, Tensor]:
    """The same weights under transformers' names."""
    source = reference.state_dict()
    names = {
        "attn.wq": "self_attn.q_proj",
        "attn.wk": "self_attn.k_proj",
        "attn.wv": "self_attn.v_proj",
        "attn.wo": "self_attn.o_proj",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
        "ln_1": "input_layernorm",
        "ln_2": "post_attention_layernorm",
        "ln_pre": "layernorm_pre",
        "ln_post": "layernorm_post",
        "resblocks": "layers",
        "pre_tile_pos_embed": "pre_tile_positional_embedding",
        "post_tile_pos_embed": "post_tile_positional_embedding",
    }
    out: dict[str, Tensor] = {}
    for name, tensor in source.items():
        if name == "positional_embedding":
            name = "gated_positional_embedding.embedding"
        elif name == "gated_positional_embedding":
            name = "gated_positional_embedding.tile_embedding.weight"
            tensor = by_ratio(tensor)
        elif name == "gated_positional_embedding_gate":
            name = "gated_positional_embedding.gate"
        elif name.startswith("conv1"):
            name = "patch_embedding.weight"
            tensor = tensor.view(len(tensor), 3, CONFIG.patch_size, CONFIG.patch_size)
        elif name.endswith("pos_embed.embedding"):
            name, tensor = name + ".weight", by_ratio(tensor)
        for old, new in names.items():
            name = name.replace(old, new)
        out[name] = tensor
    return out


@pytest.fixture(scope="module")
def encoder(reference: meta.VisionEncoder) -> VisionEncoder:
    ours = VisionEncoder(CONFIG)
    ours.load_state_dict(canonical(reference), strict=True)
    return ours.eval()


def random_pixels(num_tiles: int) -> Tensor:
    pixels = torch.zeros(4, 3, CONFIG.image_size, CONFIG.image_size)
    pixels[:num_tiles] = torch.randn(num_tiles, *pixels.shape[1:])
    return pixels


@pytest.mark.parametrize(("ratio_id", "ratio"), RATIOS)
def test_encoder_equals_metas_for_every_aspect_ratio(
    reference: meta.VisionEncoder, encoder: VisionEncoder, ratio_id: int, ratio: tuple[int, int]
) -> None:
    torch.manual_seed(ratio_id)
    tiles = ratio[0] * ratio[1]
    pixels = random_pixels(tiles)
    with torch.no_grad():
        theirs = reference(pixels[None, None], torch.tensor([[ratio]]))[0, 0]
        ours = encoder(pixels, ratio_id, tiles)
    assert ours.shape == (4, CONFIG.num_patches, CONFIG.vision_output_dim)
    assert (ours - theirs).abs().max() <= TOLERANCE[torch.float32]
    assert theirs.std() > 0.1


def test_a_batch_gives_each_picture_what_it_gives_alone(encoder: VisionEncoder) -> None:
    torch.manual_seed(1)
    tiles = torch.tensor([height * width for _, (height, width) in RATIOS])
    ids = torch.tensor([index for index, _ in RATIOS])
    pixels = torch.stack([random_pixels(int(count)) for count in tiles])
    with torch.no_grad():
        together = encoder(pixels, ids, tiles)
        for row, ratio_id, count in zip(range(len(RATIOS)), ids, tiles, strict=True):
            alone = encoder(pixels[row], int(ratio_id), int(count))
            assert (together[row] - alone).abs().max() <= 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_within_its_tolerance_of_fp32(
    encoder: VisionEncoder, dtype: torch.dtype
) -> None:
    torch.manual_seed(2)
    half = VisionEncoder(CONFIG)
    half.load_state_dict(encoder.state_dict())
    half.to(dtype)
    pixels = random_pixels(2)
    with torch.no_grad():
        difference = (half(pixels, 2, 2).float() - encoder(pixels, 2, 2)).abs().max()
    assert 0 < difference <= TOLERANCE[dtype]


def test_transformers_equals_ours_once_its_intermediate_features_are_the_inputs(
    encoder: VisionEncoder,
) -> None:
    """transformers 5 concatenates the layers' outputs: one index less is the same tensor."""
    config = MllamaVisionConfig(
        hidden_size=48,
        attention_heads=4,
        intermediate_size=192,
        num_hidden_layers=5,
        num_global_layers=2,
        image_size=56,
        patch_size=14,
        vision_output_dim=48 * 4,
        intermediate_layers_indices=[0, 2, 3],
    )
    theirs = MllamaVisionModel(config).eval()
    theirs.load_state_dict(encoder.state_dict(), strict=True)
    torch.manual_seed(3)
    pixels = random_pixels(2)
    inputs = {
        "pixel_values": pixels[None, None],
        "aspect_ratio_ids": torch.tensor([[2]]),
        "aspect_ratio_mask": torch.tensor([[[1, 1, 0, 0]]]),
    }
    ours = VisionEncoder(
        VisionConfig(
            hidden_size=48,
            num_attention_heads=4,
            intermediate_size=192,
            num_hidden_layers=5,
            num_global_layers=2,
            image_size=56,
            intermediate_layers_indices=(1, 3, 4),
        )
    )
    ours.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        difference = theirs(**inputs).last_hidden_state[0, 0] - ours(pixels, 2, 2)
    assert difference.abs().max() <= TOLERANCE[torch.float32]


def test_the_real_encoder_has_exactly_transformers_names_and_shapes() -> None:
    with torch.device("meta"):
        ours = VisionEncoder(VisionConfig()).state_dict()
        theirs = MllamaVisionModel(MllamaVisionConfig(image_size=560)).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: tensor.shape for name, tensor in theirs.items()
    }


SIZES = [(56, 56), (1, 1), (13, 200), (200, 13), (57, 56), (300, 400), (400, 300), (112, 112)]
SIZES += [(640, 100), (99, 640), (224, 56), (55, 111), (1000, 7), (113, 111), (168, 56), (60, 180)]


def png(width: int, height: int) -> bytes:
    rng = np.random.default_rng(width * 1000 + height)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_image_preparation_equals_transformers(width: int, height: int) -> None:
    data = png(width, height)
    size = {"height": CONFIG.image_size, "width": CONFIG.image_size}
    processor = MllamaImageProcessorPil(size=size, image_mean=list(MEAN), image_std=list(STD))
    theirs = processor(Image.open(io.BytesIO(data)), return_tensors="pt")
    ours = prepare_image(data, CONFIG, max_pixels=10**6)
    assert ours.aspect_ratio_id == int(theirs["aspect_ratio_ids"])
    assert ours.num_tiles == theirs["num_tiles"][0][0]
    difference = (ours.pixels - theirs["pixel_values"][0, 0]).abs().max()
    assert difference <= 1e-5


@pytest.mark.parametrize(("width", "height"), [size for size in SIZES if 1000 not in size])
def test_image_preparation_equals_metas(width: int, height: int) -> None:
    """But for extreme shapes: Meta's rounds a side down to nothing where we keep one pixel."""
    data = png(width, height)
    transform = image_transform.VariableSizeImageTransform(size=CONFIG.image_size)
    theirs, ratio = transform(Image.open(io.BytesIO(data)), max_num_chunks=4)
    ours = prepare_image(data, CONFIG, max_pixels=10**6)
    assert CONFIG.supported_aspect_ratios[ours.aspect_ratio_id - 1] == tuple(ratio)
    assert (ours.pixels[: len(theirs)] - theirs).abs().max() <= 1e-5
    assert not ours.pixels[len(theirs) :].any()
