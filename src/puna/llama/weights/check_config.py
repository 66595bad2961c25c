"""Whether a config's numbers agree with each other, wherever they were read.

Each reader checks types and bounds of single values; what takes two of them to see is here.
"""

from __future__ import annotations

from puna.errors import CheckpointError
from puna.llama.config import LlamaConfig, VisionConfig


def check_config(config: LlamaConfig, where: str) -> None:
    """Raises CheckpointError, opened by `where`, for numbers that contradict each other."""
    if config.num_attention_heads % config.num_key_value_heads:
        raise CheckpointError(
            f"{where}: {config.num_attention_heads} attention heads cannot share "
            f"{config.num_key_value_heads} keys and values: expected a divisor"
        )
    if config.head_dim % 2:
        raise CheckpointError(f"{where}: head_dim is {config.head_dim}: expected an even number")
    if config.vocab_size == 32000 and config.bos_token_id == 1:
        raise CheckpointError(
            f"{where} describes a Llama 1 or 2 (32000 tokens): Puna runs Llama 3.1 and 3.2"
        )
    scaling = config.rope_scaling
    if scaling and scaling.low_freq_factor >= scaling.high_freq_factor:
        raise CheckpointError(
            f"{where}: rope_scaling's low_freq_factor is {scaling.low_freq_factor:g}: expected "
            f"less than high_freq_factor ({scaling.high_freq_factor:g})"
        )
    layers = config.cross_attention_layers
    if list(layers) != sorted(set(layers)) or any(n >= config.num_hidden_layers for n in layers):
        raise CheckpointError(
            f"{where}: cross-attention layers {list(layers)} are not ascending numbers below "
            f"{config.num_hidden_layers}"
        )
    if vision := config.vision:
        _check_vision(vision, where)


def _check_vision(vision: VisionConfig, where: str) -> None:
    if vision.hidden_size % vision.num_attention_heads:
        raise CheckpointError(
            f"{where}: a vision width of {vision.hidden_size} does not divide by "
            f"{vision.num_attention_heads} heads"
        )
    if vision.image_size % vision.patch_size:
        raise CheckpointError(
            f"{where}: image_size {vision.image_size} is no multiple of patch_size "
            f"{vision.patch_size}"
        )
    taken = vision.intermediate_layers_indices
    if list(taken) != sorted(set(taken)) or any(n >= vision.num_hidden_layers for n in taken):
        raise CheckpointError(
            f"{where}: intermediate_layers_indices {list(taken)} are not ascending numbers below "
            f"{vision.num_hidden_layers}"
        )
