"""`RemoteModel`: any server that speaks the OpenAI or Azure chat wire, as a `ChatModel`.

It knows that wire from the client's side, and nothing of who is behind it. One connection a
request: there is nothing to close, and requests may come from any event loop.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import httpx2

from puna.chat import (
    ChatEvent,
    ChatRequest,
    Finished,
    FinishReason,
    Image,
    Message,
    ModelCard,
    NamedTool,
    Part,
    Text,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolSpec,
    Usage,
)
from puna.errors import (
    ContextTooLong,
    InvalidImage,
    InvalidValue,
    Overloaded,
    PunaError,
    RemoteFailed,
    StartupError,
    Unauthorized,
    UnknownModel,
    Unsupported,
)

# A long prompt on a slow machine is silent for long before its first token.
TIMEOUT = httpx2.Timeout(600, connect=10)

_MAGIC = (
    (b"\x89PNG", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
)


class RemoteModel:
    """`endpoint` is what comes before `/chat/completions`: `http://host:8080`, `.../v1` and so on.

    `model=None` lets the server choose. Raises `StartupError` on an endpoint that is no address and
    on a key that no header can carry.
    """

    def __init__(
        self,
        endpoint: str,
        model: str | None = None,
        *,
        api_key: str | None = None,
        timeout: httpx2.Timeout = TIMEOUT,
        card: ModelCard | None = None,
    ) -> None:
        if not re.match(r"https?://[^/\s]+", endpoint, re.IGNORECASE):
            raise StartupError(
                f"The endpoint must begin with http:// or https://, got {endpoint!r}."
            )
        if api_key and not re.fullmatch(r"[\x21-\x7e]+", api_key):
            raise StartupError(
                "The key holds a blank or another sign that no key has: paste it anew."
            )
        self._endpoint = endpoint.rstrip("/").removesuffix("/chat/completions")
        self._model = model
        self._timeout = timeout
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._card = card or ModelCard(
            name=model or "default",
            publisher="remote",
            summary=f"Whatever answers at {self._endpoint}.",
            modalities=("text", "image"),
        )

    @property
    def card(self) -> ModelCard:
        """What was said of the model when it was named; the server is not asked."""
        return self._card

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Once a model, for reading the certificates takes longer than many an answer."""
        if self._endpoint.lower().startswith("https:"):
            return httpx2.create_ssl_context()
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, and is not asked

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        url = f"{self._endpoint}/chat/completions"
        body = request_json(request, self._model)
        answer = _Answer()
        try:
            async with (
                httpx2.AsyncClient(
                    timeout=self._timeout, headers=self._headers, verify=self._tls
                ) as client,
                client.stream("POST", url, json=body) as response,
            ):
                if response.status_code != 200:
                    raise error_of(response.status_code, response.headers, await response.aread())
                async for event in httpx2.EventSource(response):
                    if event.data.startswith("[DONE]"):
                        break
                    for delta in answer.read(event.data):
                        yield delta
        except httpx2.ConnectError as error:
            raise RemoteFailed(
                f"Cannot connect to {self._endpoint}: {error}. Is the server running?"
            ) from error
        except httpx2.TimeoutException as error:
            raise RemoteFailed(f"{self._endpoint} did not answer in time.") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise RemoteFailed(f"The answer of {self._endpoint} broke off: {error}.") from error
        for last in answer.end():
            yield last


def request_json(request: ChatRequest, model: str | None = None) -> dict[str, Any]:
    """The body of a streamed request. What was not asked for is left out."""
    sampling = request.sampling
    optional: dict[str, Any] = {
        "model": model,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": sampling.seed,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop) or None,
        "frequency_penalty": sampling.frequency_penalty or None,
        "presence_penalty": sampling.presence_penalty or None,
        "logit_bias": {str(token): bias for token, bias in sampling.logit_bias.items()} or None,
        "logprobs": sampling.logprobs or None,
        "top_logprobs": sampling.top_logprobs or None,
        "tools": [_tool_json(tool) for tool in request.tools] or None,
        "tool_choice": _tool_choice_json(request),
        "parallel_tool_calls": None if request.parallel_tool_calls else False,
        "response_format": _format_json(request),
    }
    return {
        "messages": [_message_json(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        **{key: value for key, value in optional.items() if value is not None},
    }


def _message_json(message: Message) -> dict[str, Any]:
    value: dict[str, Any] = {"role": message.role, "content": _content_json(message.content)}
    if message.tool_calls:
        value["content"] = value["content"] or None
        value["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        value["tool_call_id"] = message.tool_call_id
    return value


def _content_json(parts: tuple[Part, ...]) -> str | list[dict[str, Any]]:
    if all(isinstance(part, Text) for part in parts):
        return "".join(cast("Text", part).text for part in parts)
    return [
        {"type": "text", "text": part.text}
        if isinstance(part, Text)
        else {"type": "image_url", "image_url": {"url": data_url(part)}}
        for part in parts
    ]


def data_url(image: Image) -> str:
    """The image as a data URL, labelled by its first bytes: strict servers go by the label."""
    kind = next((name for magic, name in _MAGIC if image.data.startswith(magic)), "png")
    if image.data[:4] == b"RIFF" and image.data[8:12] == b"WEBP":
        kind = "webp"
    return f"data:image/{kind};base64,{base64.b64encode(image.data).decode()}"


def _tool_json(tool: ToolSpec) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": dict(tool.parameters)}
    if tool.description:
        function["description"] = tool.description
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _tool_choice_json(request: ChatRequest) -> object:
    choice = request.tool_choice
    if isinstance(choice, NamedTool):
        return {"type": "function", "function": {"name": choice.name}}
    return None if choice == "auto" else choice


def _format_json(request: ChatRequest) -> dict[str, Any] | None:
    wanted = request.response_format
    if wanted is None:
        return None
    if wanted.schema is None:
        return {"type": "json_object"}
    schema = {"name": wanted.name, "schema": dict(wanted.schema), "strict": wanted.strict}
    return {"type": "json_schema", "json_schema": schema}


@dataclass(slots=True)
class _Fragments:
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class _Answer:
    """Chunks in, events out. Calls come in pieces and leave whole, before `Finished`."""

    calls: dict[int, _Fragments] = field(default_factory=dict[int, _Fragments])
    reason: FinishReason | None = None
    usage: Usage = field(default_factory=lambda: Usage(0, 0))

    def read(self, data: str) -> list[ChatEvent]:
        try:
            return self._read(cast("dict[str, Any]", json.loads(data)))
        except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
            raise RemoteFailed(
                f"The server sent a chunk of no known shape: {data[:200]}"
            ) from error

    def _read(self, chunk: dict[str, Any]) -> list[ChatEvent]:
        if chunk.get("error"):
            raise RemoteFailed(f"The server failed in its answer: {_message_of(chunk)}")
        if chunk.get("usage"):
            self.usage = _usage(chunk["usage"])
        if not chunk.get("choices"):
            return []
        choice: dict[str, Any] = chunk["choices"][0]
        delta: dict[str, Any] = choice.get("delta") or {}
        for piece in delta.get("tool_calls") or ():
            self._add(cast("dict[str, Any]", piece))
        if choice.get("finish_reason"):
            known = ("stop", "length", "tool_calls", "content_filter")
            reason = choice["finish_reason"]
            self.reason = reason if reason in known else "stop"
        text = str(delta.get("content") or "")
        logprobs = _logprobs(cast("dict[str, Any]", choice.get("logprobs") or {}).get("content"))
        return [TextDelta(text, logprobs)] if text or logprobs else []

    def _add(self, piece: dict[str, Any]) -> None:
        index = int(piece.get("index") or 0)
        call = self.calls.setdefault(index, _Fragments())
        function = cast("dict[str, Any]", piece.get("function") or {})
        call.id = call.id or str(piece.get("id") or "")
        call.name += str(function.get("name") or "")
        call.arguments += str(function.get("arguments") or "")

    def end(self) -> list[ChatEvent]:
        if self.reason is None:
            raise RemoteFailed("The server's answer broke off before its end.")
        calls: list[ChatEvent] = [
            ToolCall(call.id or f"call_{index}", call.name, call.arguments or "{}")
            for index, call in sorted(self.calls.items())
            # `length` may have cut the last one, and half a call is no event.
            if self.reason != "length" or _is_json(call.arguments)
        ]
        return [*calls, Finished(self.reason, self.usage)]


def _usage(value: dict[str, Any]) -> Usage:
    details = cast("dict[str, Any]", value.get("prompt_tokens_details") or {})
    return Usage(
        prompt_tokens=int(value.get("prompt_tokens") or 0),
        completion_tokens=int(value.get("completion_tokens") or 0),
        cached_tokens=int(details.get("cached_tokens") or 0),
    )


def _logprobs(tokens: list[dict[str, Any]] | None) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(
            token=str(token["token"]),
            bytes=bytes(token.get("bytes") or str(token["token"]).encode()),
            logprob=float(token["logprob"]),
            top=_logprobs(token.get("top_logprobs")),
        )
        for token in tokens or ()
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> PunaError:
    """The error behind an HTTP answer that is no 200, in Puna's own terms."""
    try:
        value: object = json.loads(body)
    except ValueError:
        value = body[:200].decode(errors="replace")
    message = _message_of(value) or f"no reason given (status {status})"
    error = cast("dict[str, Any]", value).get("error") if isinstance(value, dict) else None
    fields = cast("dict[str, Any]", error) if isinstance(error, dict) else {}
    code = str(fields.get("code") or "")
    param = str(fields["param"]) if fields.get("param") else None
    match status:
        case 401 | 403:
            return Unauthorized(f"The server refused the key: {message}")
        case 404 if code in ("unknown_model", "model_not_found"):
            return UnknownModel(message, param="model")
        case 429:
            wait = headers.get("retry-after", "")
            return Overloaded(message, retry_after=int(wait) if wait.isdigit() else 5)
        case 400 | 413 | 422:
            return _bad_request(code, message, param)
        case _:
            return RemoteFailed(f"The server answered {status}: {message}")


def _bad_request(code: str, message: str, param: str | None) -> PunaError:
    numbers = sorted({int(number) for number in re.findall(r"\d+", message.replace(",", ""))})
    if code in ("context_length_exceeded", "tokens_limit_reached") and len(numbers) > 1:
        return ContextTooLong(message, prompt_tokens=numbers[-1], limit=numbers[-2], param=param)
    kinds = {Unsupported.code: Unsupported, InvalidImage.code: InvalidImage}
    return kinds.get(code, InvalidValue)(message, param=param)


def _message_of(value: object) -> str:
    """The message, wherever the server put it, on one line."""
    while isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        value = fields.get("error") or fields.get("message") or fields.get("detail") or ""
    return " ".join(str(value).split())
