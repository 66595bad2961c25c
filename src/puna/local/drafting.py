"""The engine's speculation as settings ask for it, and the model that drafts, if one does.

It knows two checkpoints and whether they speak of the same tokens; nothing of how drafts are made.
"""

from __future__ import annotations

from puna.engine.draft_model import DraftModel
from puna.engine.speculation import Speculation
from puna.errors import StartupError
from puna.llama.cache import KVCache
from puna.llama.load import load_llama
from puna.llama.tokenizer import Tokenizer
from puna.llama.weights import Checkpoint
from puna.local.placement import Placement
from puna.settings import Settings


def speculation_for(
    settings: Settings, placement: Placement, draft: Checkpoint | None
) -> Speculation | None:
    """None if it is off. Loads `draft`, for which `placement` has set memory aside."""
    if settings.speculation == "off":
        return None
    if draft is None or placement.draft is None:
        return Speculation()
    memory, form, device = placement.memory, placement.draft, placement.device
    return Speculation(
        DraftModel(
            load_llama(draft, device, form.dtype, form.packing),
            KVCache(draft.config, memory.num_pages, memory.page_size, form.cache_dtype, device),
            page_size=memory.page_size,
            device=device,
            max_rows=settings.max_batch_tokens,
        )
    )


def check_draft(draft: Checkpoint, checkpoint: Checkpoint, settings: Settings) -> None:
    """Raises `StartupError` unless `draft` can draft for `checkpoint`: every token id must mean the
    same to both."""
    if settings.speculation == "off":
        raise StartupError("draft names a model, and speculation is off: leave one of them out")
    theirs, ours = draft.config.vocab_size, checkpoint.config.vocab_size
    if theirs != ours:
        raise StartupError(
            f"{draft.path.name} cannot draft for {checkpoint.path.name}: it has {theirs} tokens "
            f"and the model {ours}; take a smaller model of the same family"
        )
    small, large = draft.tokenizer(), checkpoint.tokenizer()
    other = next((i for i in range(ours) if small.token_bytes(i) != large.token_bytes(i)), None)
    if other is not None or _specials(small) != _specials(large):
        difference = "special tokens" if other is None else f"token {other}"
        raise StartupError(
            f"{draft.path.name} cannot draft for {checkpoint.path.name}: their tokenizers differ "
            f"in {difference}; take a smaller model of the same family"
        )


def _specials(tokenizer: Tokenizer) -> dict[str, int]:
    return {name: tokenizer.special(name) for name in tokenizer.special_names}
