"""Functions on tensors, from which the models are built.

Each function here is a plain torch twin: it says what the function means, runs on every device, and
is what a native kernel must agree with. It knows no models, no sequences and no configuration.

Rows come ragged: the tokens of several sequences lie end to end on the first axis, and only the
attention functions ask which row belongs to whom.
"""

from puna.kernels.attention import PagedSpan, cross_attention, paged_attention, store
from puna.kernels.dense import linear, rms_norm, swiglu
from puna.kernels.rotary import rotary_table, rotate

__all__ = [
    "PagedSpan",
    "cross_attention",
    "linear",
    "paged_attention",
    "rms_norm",
    "rotary_table",
    "rotate",
    "store",
    "swiglu",
]
