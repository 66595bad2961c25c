"""What every checkpoint offers, whatever its layout on disk.

A reader for one layout says which canonical tensors its files hold and gives each when asked. It
knows no device and no model: `puna.llama.load` builds one from what is given here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from puna.errors import CheckpointError
from puna.kernels import Format, Packed, give_back, in_parts
from puna.llama.config import LlamaConfig
from puna.llama.shapes import Shape, count_parameters, tensor_shapes
from puna.llama.tokenizer import Tokenizer
from puna.llama.weights.fields import listed


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """How to choose tokens where a request does not say (`generation_config.json`).

    temperature >= 0 (0 = greedy), 0 < top_p <= 1, top_k >= 1 or None (no limit). The values here
    are the ones that every published Llama 3.1 and 3.2 ships with, for layouts that hold none.
    `not_honoured` lists settings of the file that Puna does not have, as `name=value`: tell the
    user, who may have tuned them.
    """

    temperature: float = 0.6
    top_p: float = 0.9
    top_k: int | None = None
    not_honoured: tuple[str, ...] = ()


class Checkpoint(ABC):
    """An opened checkpoint: described and checked, its tensors not yet read.

    `path` is what the user named, `layout` says in words what was found there. Tensors have
    `puna.llama.shapes`' names and shapes and half-split rotary order.
    """

    path: Path
    layout: str
    config: LlamaConfig
    generation: GenerationDefaults = GenerationDefaults()
    stored_dtype: torch.dtype
    """The dtype that most weights are stored in; float16 for quantised ones."""
    quantized: str | None = None
    """What most weights are quantised to, in the layout's own word; None where they are not."""

    @abstractmethod
    def stored_shapes(self) -> Mapping[str, Shape]:
        """Name -> shape of all that the files hold: canonical names, and the files' own for
        tensors that have no place in a Llama."""

    @abstractmethod
    def read(self, name: str, dtype: torch.dtype) -> Tensor:
        """One tensor on the CPU, contiguous; memory-mapped where the files hold it just so."""

    def parts(self, name: str) -> Iterator[Tensor]:
        """A matrix's rows from the top, some at a time (`kernels.in_parts`), in a dtype that
        holds exactly what is stored. A part is read before the next is asked for, or never: what
        of the file is mapped for it goes back to the system then."""
        whole = self.read(name, self.stored_dtype)
        for part in in_parts(whole, whole.shape[1]):
            yield part
            give_back(part)

    def stored_format(self, name: str) -> Format | None:
        """The packed format in which the files hold this matrix, to the last bit; None for others,
        which are had by `read` alone."""
        return None

    def packed(self, name: str) -> Packed:
        """A matrix that has a `stored_format`, in it."""
        raise KeyError(name)

    @abstractmethod
    def _open_tokenizer(self) -> Tokenizer: ...

    def tokenizer(self) -> Tokenizer:
        """Raises CheckpointError when it is missing, damaged or another model's."""
        tokenizer = self._open_tokenizer()
        bos = tokenizer.special("<|begin_of_text|>")
        if bos != self.config.bos_token_id:
            raise CheckpointError(
                f"{self.path}: the tokenizer's <|begin_of_text|> is {bos}, the model's "
                f"{self.config.bos_token_id}: tokenizer and weights are of different models"
            )
        return tokenizer

    def tensors(self, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
        """Every tensor by its canonical name, read one at a time."""
        for name in tensor_shapes(self.config):
            yield name, self.read(name, dtype)

    def weight_bytes(self, dtype: torch.dtype) -> int:
        """Memory that the weights take once loaded, in bytes; known before any is read."""
        return count_parameters(self.config) * dtype.itemsize

    def check(self) -> None:
        """Raises CheckpointError, naming the tensors, unless the files hold what `config` says."""
        wanted, stored = tensor_shapes(self.config), self.stored_shapes()
        problems: list[str] = []
        if missing := [name for name in wanted if name not in stored]:
            problems.append(f"{_count(missing)} missing ({listed(missing)})")
        if unexpected := [name for name in stored if name not in wanted]:
            problems.append(f"{_count(unexpected)} of no use in a Llama ({listed(unexpected)})")
        misshapen = [
            f"{name} is {list(stored[name])}, expected {list(shape)}"
            for name, shape in wanted.items()
            if name in stored and tuple(stored[name]) != shape
        ]
        if misshapen:
            problems.append("; ".join([listed(misshapen)]))
        if problems:
            raise CheckpointError(
                f"{self.path}: the weights are not those of the model described: "
                f"{'; '.join(problems)}. Download it again, or report this if it is a Llama 3"
            )


def _count(names: list[str]) -> str:
    return "1 tensor is" if len(names) == 1 else f"{len(names)} tensors are"


def copied(result: Tensor, *sources: Tensor) -> Tensor:
    """`result`. Where it is no view of the mapped `sources` it came from, their pages go back."""
    give_back(*(each for each in sources if each.data_ptr() != result.data_ptr()))
    return result


def equal(one: Tensor, other: Tensor) -> bool:
    """Whether two mapped matrices are the same, without ever having them in memory as a whole."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    both = (in_parts(each, each.shape[1]) for each in (one, other))
    for pair in zip(*both, strict=True):
        if not torch.equal(*pair):
            return False
        give_back(*pair)
    return True


def half_split(weight: Tensor, heads: int) -> Tensor:
    """Rotary rows [heads * head_dim, width], interleaved (Meta, GGUF), in Hugging Face's order."""
    rows, width = weight.shape
    pairs = weight.view(heads, rows // heads // 2, 2, width)
    return pairs.transpose(1, 2).reshape(rows, width)


def aspect_ratios(max_num_tiles: int) -> tuple[tuple[int, int], ...]:
    """The canvases (height, width) in tiles, in the order of their ids; the first has id 1."""
    sizes = range(1, max_num_tiles + 1)
    return tuple((h, w) for h in sizes for w in sizes if h * w <= max_num_tiles)
