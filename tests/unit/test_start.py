"""What a start imports: torch takes two seconds, and little may come on top of it."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import asyncio, json, sys
import torch
before = set(sys.modules)
import puna.server
from puna.chat import Sampling, collect, message, request
from puna.opening import close, open_model, settings_from
settings = settings_from({"max_context": 256, "device": "cpu"})
model = open_model("cria-text", settings)
app = puna.server.create_app({"cria-text": model}, aliases={}, settings=settings)
asked = request([message("user", "Hello")], sampling=Sampling(max_tokens=2))
reply = asyncio.run(collect(model.stream(asked)))
close(model)
assert reply.usage.completion_tokens == 2
print(json.dumps(sorted(set(sys.modules) - before)))
"""
HEAVY = (
    "torch._dynamo",
    "torch._inductor",
    "torch.onnx",
    "transformers",
    "sympy",
    "pint",
    "mcp",
    "jsonschema",
    "numpy",
    "pandas",
    "ddgs",
    "rich",
    "huggingface_hub",
    "cryptography",
)


def test_a_served_answer_imports_nothing_heavy_beyond_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    modules: list[str] = json.loads(done.stdout)
    assert [name for name in HEAVY if name in modules] == []
