"""`LocalModel`: a checkpoint on this machine that answers. Prompt, engine and reply, joined.

It knows the conversation on one side and token ids on the other, and neither how a prompt is
written nor how ids are computed; where the weights go is placement.py's. Tokenising and decoding
images happen in worker threads, the model in the engine's; the event loop only hands over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import Literal, TypeVar

from puna.chat import (
    ChatEvent,
    ChatRequest,
    Finished,
    Image,
    ModelCard,
    Sampling,
    TokenLogprob,
    Usage,
)
from puna.engine.engine import Engine, EngineLimits
from puna.engine.grammar import Grammars
from puna.engine.memory import gigabytes
from puna.engine.sequence import Emitted, Ended, Outcome, Prompt, SamplingParams
from puna.errors import (
    CheckpointError,
    ContextTooLong,
    InvalidImage,
    InvalidValue,
)
from puna.kernels import trim
from puna.llama import catalog
from puna.llama.cache import KVCache
from puna.llama.images import PreparedImage, prepare_image
from puna.llama.load import load_llama
from puna.llama.prompt import offered_tools, render_prompt
from puna.llama.reply import PYTHON_TAG, ReplyParser
from puna.llama.shapes import count_parameters
from puna.llama.tokenizer import Tokenizer
from puna.llama.weights import Checkpoint, open_checkpoint
from puna.local.constraints import Constraints
from puna.local.drafting import check_draft, speculation_for
from puna.local.placement import Placement, place
from puna.settings import Settings

T = TypeVar("T")

logger = logging.getLogger("puna.local")


def today() -> date:
    return datetime.now().astimezone().date()


class LocalModel:
    """A `ChatModel`. Any number of event loops and threads may stream from it at once."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: Settings,
        *,
        name: str,
        draft: Checkpoint | None = None,
        clock: Callable[[], date] = today,
    ) -> None:
        """Loads `checkpoint`, after making sure that it fits. Raises as `load` does."""
        if draft is not None:
            check_draft(draft, checkpoint, settings)
        self._settings = settings
        self._clock = clock
        self._config = checkpoint.config
        self._defaults = checkpoint.generation
        for setting in checkpoint.generation.not_honoured:
            logger.warning("%s: %s in generation_config.json is not honoured", name, setting)

        self.placement = place(checkpoint, settings, draft)
        self.memory = memory = self.placement.memory
        self._tokenizer = checkpoint.tokenizer()
        self._image_token = checkpoint.config.image_token_id
        self._stop_ids = frozenset({*checkpoint.config.eos_token_ids, *self._tokenizer.stop_ids})
        if checkpoint.config.vision:
            _check_image_token(checkpoint, self._tokenizer)
        self.card = _card(checkpoint, name, self.placement, settings)
        self._constraints = Constraints(
            Grammars(self._tokenizer, self._config.vocab_size, sorted(self._stop_ids)),
            self._tokenizer,
            self._config.prompt_family,
            settings.prompt_style,
        )

        device, dtype = self.placement.device, self.placement.cache_dtype
        llama = load_llama(checkpoint, device, self.placement.dtype, self.placement.packing)
        trim()  # of what reading took: the cache would lie between it
        self._engine = Engine(
            llama,
            KVCache(checkpoint.config, memory.num_pages, memory.page_size, dtype, device),
            EngineLimits(
                context=memory.context,
                num_pages=memory.num_pages,
                page_size=memory.page_size,
                image_memory=memory.image_bytes,
                bytes_per_tile=memory.bytes_per_tile,
                max_batch_tokens=settings.max_batch_tokens,
                max_prompt_tokens=settings.max_prompt_tokens,
                max_sequences=settings.max_sequences,
                max_queue=settings.max_queue,
            ),
            device,
            speculation=speculation_for(settings, self.placement, draft),
        )
        self._engine.start()

    @classmethod
    def load(
        cls,
        path: str | Path,
        settings: Settings | None = None,
        *,
        name: str | None = None,
        draft: str | Path | None = None,
    ) -> LocalModel:
        """The checkpoint at `path` (a folder or one of its files), under `name`; the one at `draft`
        guesses ahead for it.

        Raises `CheckpointError`, `ModelTooLarge` (before a weight is read) and `StartupError`.
        """
        return cls(
            open_checkpoint(path),
            settings or Settings(),
            name=name or Path(path).resolve().stem,
            draft=open_checkpoint(draft) if draft else None,
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """See `ChatModel.stream`. Raises `InvalidValue`, `InvalidImage`, `ContextTooLong`,
        `Unsupported` and `Overloaded` before the first event, `EngineFailed` at any time."""
        prompt, sampling = await asyncio.to_thread(self._prepare, request)
        constraint = await self._constraints.of(request)
        generated = 0

        def guarded() -> bool:
            since = constraint.armed_at if constraint else None
            return since is not None and since <= generated

        parser = ReplyParser(
            self._tokenizer,
            offered_tools(request),
            stop=request.sampling.stop,
            parallel=request.parallel_tool_calls,
            guarded=guarded,
        )
        loop = asyncio.get_running_loop()
        outcomes = asyncio.Queue[Outcome]()

        def outbox(outcome: Outcome) -> None:
            loop.call_soon_threadsafe(outcomes.put_nowait, outcome)

        sequence = self._engine.submit(prompt, sampling, outbox, constraint)
        reason: Literal["stop", "length"] = "stop"
        try:
            while not parser.ended:
                match await outcomes.get():
                    case Emitted() as emitted:
                        generated += 1
                        for event in parser.feed(emitted.token, self._logprob(emitted)):
                            yield event
                    case Ended() as ended:
                        reason = ended.reason
                        break
                    case error:
                        raise error
            events, why = parser.finish(reason)
            for event in events:
                yield event
        finally:
            self._engine.cancel(sequence)  # a stop string, or nobody listens any more
        yield Finished(
            why, Usage(len(prompt.token_ids), generated, cached_tokens=sequence.cached_tokens or 0)
        )

    def stats(self) -> dict[str, float]:
        """Numbers for metrics, by name: what the engine counts, and the memory that it has."""
        counted: dict[str, float] = asdict(self._engine.stats())
        return counted | {
            "weight_bytes": self.memory.weight_bytes,
            "kv_bytes": self.memory.kv_bytes,
            "kv_tokens": self.memory.kv_tokens,
        }

    def close(self) -> None:
        """Ends the engine; streams that are open get `EngineFailed`. The memory goes with the last
        reference to this model."""
        self._constraints.close()
        self._engine.close()

    def _prepare(self, request: ChatRequest) -> tuple[Prompt, SamplingParams]:
        """All that can be wrong with a request, and all the work before the engine's."""
        _check_logprobs(request)
        rendered = render_prompt(
            request,
            self._tokenizer,
            self._config.prompt_family,
            today=self._clock(),
            style=self._settings.prompt_style,
            images_first=self._settings.images_first,
        )
        max_tokens = self._max_tokens(len(rendered.token_ids), request.sampling.max_tokens)
        sampling = self._sampling(request.sampling, max_tokens)
        images = self._images(rendered.images)
        places = [i for i, token in enumerate(rendered.token_ids) if token == self._image_token]
        return Prompt(rendered.token_ids, tuple(zip(places, images, strict=True))), sampling

    def _max_tokens(self, prompt_tokens: int, asked: int | None) -> int:
        context = self.memory.context
        if prompt_tokens >= context:
            raise ContextTooLong(
                f"the prompt has {prompt_tokens} tokens, and with at least one for the answer more "
                f"than the context of {context}: shorten the messages",
                prompt_tokens=prompt_tokens,
                limit=context,
                param="messages",
            )
        room = context - prompt_tokens
        if asked is None:
            return min(self.card.max_output_tokens, room)
        if asked > self.card.max_output_tokens:
            raise InvalidValue(
                f"max_tokens is {asked}, and this model answers with "
                f"{self.card.max_output_tokens} tokens at most: ask for no more, or for none",
                param="max_tokens",
            )
        if asked > room:
            raise ContextTooLong(
                f"the prompt has {prompt_tokens} tokens and max_tokens is {asked}, together more "
                f"than the context of {context}: max_tokens may be {room} at most",
                prompt_tokens=prompt_tokens,
                limit=context,
                param="max_tokens",
            )
        return asked

    def _sampling(self, asked: Sampling, max_tokens: int) -> SamplingParams:
        defaults = self._defaults
        for token in asked.logit_bias:
            if not 0 <= token < self._config.vocab_size:
                raise InvalidValue(
                    f"logit_bias names token {token}: this model's run from 0 to "
                    f"{self._config.vocab_size - 1}",
                    param="logit_bias",
                )
        return SamplingParams(
            max_tokens=max_tokens,
            stop_ids=self._stop_ids,
            temperature=_first(asked.temperature, defaults.temperature),
            top_p=_first(asked.top_p, defaults.top_p),
            top_k=_first(asked.top_k, defaults.top_k),
            seed=asked.seed,
            frequency_penalty=asked.frequency_penalty,
            presence_penalty=asked.presence_penalty,
            logit_bias=asked.logit_bias,
            logprobs=asked.logprobs,
            top_logprobs=asked.top_logprobs,
        )

    def _images(self, images: Sequence[Image]) -> list[PreparedImage]:
        vision, most = self._config.vision, self._settings.max_images
        if vision is None:
            return []
        if len(images) > most:
            raise InvalidImage(
                f"the messages hold {len(images)} images: at most {most} are taken",
                param="messages",
            )
        prepared: list[PreparedImage] = []
        for number, image in enumerate(images, 1):
            try:
                pixels = self._settings.max_image_pixels
                prepared.append(prepare_image(image.data, vision, max_pixels=pixels))
            except InvalidImage as error:
                where = f"image {number} of {len(images)}: " if len(images) > 1 else ""
                raise InvalidImage(where + error.message, param="messages") from error
        return prepared

    def _logprob(self, emitted: Emitted) -> TokenLogprob | None:
        """As OpenAI gives it: for tokens of the text, of which no special one but the python tag
        is a part."""
        if emitted.logprob is None:
            return None
        special = self._tokenizer.is_special(emitted.token)
        if special and self._tokenizer.token_text(emitted.token) != PYTHON_TAG:
            return None
        top = tuple(self._token_logprob(token, logprob) for token, logprob in emitted.top)
        return self._token_logprob(emitted.token, emitted.logprob, top)

    def _token_logprob(
        self, token: int, logprob: float, top: tuple[TokenLogprob, ...] = ()
    ) -> TokenLogprob:
        text, data = self._tokenizer.token_text(token), self._tokenizer.token_bytes(token)
        return TokenLogprob(text, data, logprob, top)


def _check_logprobs(request: ChatRequest) -> None:
    if request.sampling.top_logprobs and not request.sampling.logprobs:
        raise InvalidValue(
            f"top_logprobs is {request.sampling.top_logprobs} without logprobs: set logprobs too",
            param="top_logprobs",
        )


def _card(checkpoint: Checkpoint, name: str, placement: Placement, settings: Settings) -> ModelCard:
    config, memory = checkpoint.config, placement.memory
    kind = "text and images" if config.vision else "text"
    return ModelCard(
        name=name,
        publisher="meta" if catalog.find(name) else "local",
        summary=(
            f"Llama for {kind}, {_count(count_parameters(config))} parameters in "
            f"{placement.weights} on {placement.device}: {gigabytes(memory.weight_bytes)} of "
            f"weights, {gigabytes(memory.kv_bytes)} of KV memory for {memory.kv_tokens} tokens, "
            f"context {memory.context}"
        ),
        context_length=memory.context,
        max_output_tokens=min(settings.max_output_tokens, memory.context - 1),
        modalities=("text", "image") if config.vision else ("text",),
        created=int(checkpoint.path.stat().st_mtime),
    )


def _count(parameters: int) -> str:
    return (
        f"{parameters / 1e9:.2f} billion"
        if parameters >= 1e8
        else f"{parameters / 1e6:.2f} million"
    )


def _check_image_token(checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
    named = tokenizer.special("<|image|>")
    if named != checkpoint.config.image_token_id:
        raise CheckpointError(
            f"{checkpoint.path}: the tokenizer's <|image|> is {named}, the model's "
            f"{checkpoint.config.image_token_id}: tokenizer and weights are of different models"
        )


def _first(asked: T | None, default: T) -> T:
    return default if asked is None else asked
