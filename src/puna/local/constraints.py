"""What of a request becomes a grammar, and where it is compiled: neither in the event loop nor in
the engine's thread.

It knows requests and the manner of the model, and no tokens but the python tag. A schema that
takes too long is refused; its thread ends by the compiler's own limits, and there are few of them.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from puna.chat import ChatRequest, NamedTool
from puna.engine.grammar import Grammars, Guarding
from puna.errors import CheckpointError, EngineFailed, InvalidValue
from puna.llama.config import PromptFamily
from puna.llama.grammars import CallForm, forced_calls, free_calls, json_grammar
from puna.llama.prompt import PromptStyle, offered_tools
from puna.llama.reply import PYTHON_TAG
from puna.llama.tokenizer import Tokenizer

THREADS = 2
SECONDS = 10.0


class Constraints:
    """Of one model, which speaks as `family` and `style` say."""

    def __init__(
        self,
        grammars: Grammars,
        tokenizer: Tokenizer,
        family: PromptFamily,
        style: PromptStyle,
    ) -> None:
        self._grammars = grammars
        try:
            self._python_tag: int | None = tokenizer.special(PYTHON_TAG)
        except CheckpointError:
            self._python_tag = None
        self._builtins = self._python_tag is not None and (style == "meta" or family == "3.1")
        self._form: CallForm = "pythonic" if style == "meta" and family == "3.2" else "json"
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="puna-grammar")

    async def of(self, request: ChatRequest) -> Guarding | None:
        """What constrains the answer, or None. Raises `InvalidValue` with the parameter that no
        grammar can be made of, and why."""
        asked = _asked_by(request)
        if asked is None:
            return None
        try:
            work = self._pool.submit(self._compile, request)
        except RuntimeError:
            raise EngineFailed("the engine is shut down") from None
        try:
            return await asyncio.wait_for(asyncio.wrap_future(work), SECONDS)
        except TimeoutError:
            raise InvalidValue(
                f"{asked}: making a grammar of it took longer than {SECONDS:.0f} seconds: simplify "
                "the schema, or try again when the machine is less busy",
                param=asked,
            ) from None

    def close(self) -> None:
        self._pool.shutdown(wait=False)

    def _compile(self, request: ChatRequest) -> Guarding:
        offered = offered_tools(request)
        tools = [(place, tool) for place, tool in enumerate(request.tools) if tool in offered]
        choice, parallel = request.tool_choice, request.parallel_tool_calls
        if isinstance(choice, NamedTool):
            tools = [(place, tool) for place, tool in tools if tool.name == choice.name]
        if choice == "required" or isinstance(choice, NamedTool):
            if not tools:
                raise InvalidValue(
                    f"tool_choice: there is no tool {choice.name} in tools"
                    if isinstance(choice, NamedTool)
                    else "tool_choice is required, and no tools are offered",
                    param="tool_choice",
                )
            calls = forced_calls(
                tools,
                form=self._form,
                builtins=self._builtins,
                python_tag=self._python_tag,
                parallel=parallel,
            )
            return self._grammars.compile(calls)
        answer = json_grammar(request.response_format) if request.response_format else None
        if answer is not None and not tools:
            return self._grammars.compile(answer)
        calls = free_calls(tools, python_tag=self._python_tag, parallel=parallel)
        if answer is not None:
            return self._grammars.either(calls, answer)
        return self._grammars.lazy(calls, self._python_tag)


def _asked_by(request: ChatRequest) -> str | None:
    """The parameter by which an answer is constrained, if it is."""
    if request.tool_choice not in ("auto", "none"):
        return "tool_choice"
    if request.response_format is not None:
        return "response_format"
    return "tools" if offered_tools(request) else None
