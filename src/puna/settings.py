"""Every knob, with its default, and the only reader of the environment.

A value comes from, in order: the command line, the environment (`PUNA_PORT`, `HF_TOKEN` ...), the
file `puna.toml` in the working directory, the default below. It knows no parts: cli passes values.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)


def _hub_cache() -> Path:
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()


def _config_dir() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "puna"


def _state_dir() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "puna"


class Settings(BaseSettings):
    """Memory in bytes, times in seconds, lengths in tokens."""

    model_config = SettingsConfigDict(
        env_prefix="PUNA_", toml_file="puna.toml", extra="forbid", populate_by_name=True
    )

    # server
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    api_key: str | None = None
    max_body_bytes: int = Field(default=32 * 2**20, gt=0)
    max_queue: int = Field(default=256, ge=1, description="requests that wait or run, at most")
    max_images: int = Field(default=16, ge=1, description="images a request, at most")
    max_image_pixels: int = Field(default=64_000_000, gt=0)
    allow_image_urls: bool = False
    cors_origins: tuple[str, ...] = Field(
        default=(), description="pages of other origins that may use the server; * = all"
    )

    # models
    models_dir: Path | None = Field(default=None, description="searched before the hub's cache")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantize: Literal["auto", "none", "int8", "int4"] = Field(
        default="auto", description="auto: as the files have it"
    )
    max_context: int | None = Field(default=None, ge=16)
    kv_dtype: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    kv_memory: int | None = Field(default=None, gt=0)
    prompt_style: Literal["hf", "meta"] = "hf"
    images_first: bool = True
    max_output_tokens: int = Field(default=4096, ge=1)

    # engine
    page_size: int = Field(default=16, ge=1)
    max_batch_tokens: int = Field(default=512, ge=1, description="rows a step, at most")
    max_prompt_tokens: int | None = Field(
        default=None, ge=1, description="rows of prompts a step beside answers; else as time allows"
    )
    max_sequences: int = Field(default=64, ge=1, description="sequences a step, at most")
    speculation: Literal["auto", "off"] = Field(
        default="auto", description="guess tokens ahead where that is faster; no text changes"
    )
    draft: str | None = Field(default=None, description="a smaller model that guesses ahead")

    # tools
    brave_api_key: str | None = Field(default=None, validation_alias="BRAVE_API_KEY", repr=False)
    wolfram_app_id: str | None = Field(default=None, validation_alias="WOLFRAM_APP_ID", repr=False)
    searxng_url: str | None = Field(
        default=None, description="a SearXNG of one's own, asked where there is no key of Brave's"
    )
    search_fallback: Literal["none", "ddgs"] = Field(
        default="none", description="who is asked where there is neither key nor SearXNG"
    )
    search_results: int = Field(default=5, ge=1, le=20, description="of one search, at most")
    brave_endpoint: Literal["web", "llm_context"] = "web"
    brave_monthly_cap: int = Field(
        default=1000, ge=0, description="searches a calendar month, at most: they cost money"
    )
    wolfram_endpoint: Literal["full", "llm"] = "full"
    max_tools: int = Field(default=16, ge=1, description="offered to the model at once")
    max_tool_tokens: int = Field(
        default=4000, ge=1, description="of the tools offered at once, estimated"
    )
    pinned_tools: tuple[str, ...] = Field(
        default=(), description="tools that are offered however many there are"
    )
    tool_steps: int = Field(default=8, ge=1, description="turns of an answer that call tools")
    tool_call_seconds: float = Field(default=60.0, gt=0, description="of one call")
    tool_seconds: float = Field(default=300.0, gt=0, description="of all calls of an answer")
    tool_tokens: int = Field(default=200_000, ge=1, description="read and written for an answer")
    tool_result_chars: int = Field(
        default=20_000, ge=200, description="of the results of a turn that the model gets to read"
    )
    tool_conversations: int = Field(
        default=256, ge=1, description="whose steps and interpreters are kept"
    )
    tool_idle_seconds: float = Field(default=1800.0, gt=0, description="for which they are kept")
    keyring: bool = Field(default=True, description="keys may be in the system's keyring")
    config_dir: Path = Field(
        default_factory=_config_dir, description="of the user: keys, servers of tools"
    )
    state_dir: Path = Field(default_factory=_state_dir, description="of the user: what was spent")
    code_sandbox: Literal["auto", "bubblewrap", "landlock", "monty"] = Field(
        default="auto", description="what confines code_interpreter; auto: the strongest here"
    )
    code_seconds: float = Field(default=30.0, gt=0, description="a call of code_interpreter")
    code_memory: int = Field(default=2**30, ge=2**27, description="of one code_interpreter")
    code_packages: bool = Field(default=True, description="code may import what Puna could")

    # outside
    hf_endpoint: str | None = Field(default=None, validation_alias="HF_ENDPOINT")
    hf_token: str | None = Field(default=None, validation_alias="HF_TOKEN", repr=False)
    hub_cache: Path = Field(default_factory=_hub_cache)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def environment() -> Mapping[str, str]:
    """The process environment, for a child process that is to inherit it."""
    return dict(os.environ)
