"""Functions on tensors, from which the models are built.

Each has a plain torch twin that says what it means and runs on every device. On the CPU, in fp32,
`native` does the same faster; it must agree with the twin. Weights may be `Packed` in few bits. All
this knows no models, no sequences and no configuration.

Rows come ragged: the tokens of several sequences lie end to end on the first axis, and only the
attention functions ask which row belongs to whom.

Rows are of two kinds, each in the same bits whatever stands beside it. The first `exact` ones are
multiplied in the way that suits few rows. The others come in hundreds, as a prompt's do: packed
weights meet them in tiles of bytes where a processor has such (AMX), and int8 as int16 with AVX2:
faster, but in other bits than as exact rows. Elsewhere the kinds are the same.
"""

from puna.kernels.attention import (
    PagedSpan,
    Source,
    cross_attention,
    padded_attention,
    paged_attention,
)
from puna.kernels.dense import (
    argmax,
    embedding,
    linear,
    linear_add,
    norm_linear,
    norm_swiglu,
    rms_norm,
    swiglu,
)
from puna.kernels.layer import LayerWeights, Step, self_attention_layers
from puna.kernels.memory import give_back, trim
from puna.kernels.packed import (
    Format,
    Packed,
    assemble,
    in_parts,
    pack,
    pack_parts,
    rows_at_once,
    unpack,
)
from puna.kernels.pages import PAGE, bytes_per_token, new_pages, store
from puna.kernels.rotary import rotary_table, rotate

__all__ = [
    "PAGE",
    "Format",
    "LayerWeights",
    "Packed",
    "PagedSpan",
    "Source",
    "Step",
    "argmax",
    "assemble",
    "bytes_per_token",
    "cross_attention",
    "embedding",
    "give_back",
    "in_parts",
    "linear",
    "linear_add",
    "new_pages",
    "norm_linear",
    "norm_swiglu",
    "pack",
    "pack_parts",
    "padded_attention",
    "paged_attention",
    "rms_norm",
    "rotary_table",
    "rotate",
    "rows_at_once",
    "self_attention_layers",
    "store",
    "swiglu",
    "trim",
    "unpack",
]
