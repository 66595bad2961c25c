"""Documents as Llama 3 prompts: segments of text and special tokens, each with its loss weight.

The wording is that of Meta's documents (form "meta") and of the published Llama 3.1 and 3.2 chat
templates ("hf31", "hf32"). Knows no task.
"""

# Tables of wordings read best as they stand.
# ruff: noqa: E501

import json
from dataclasses import dataclass, field
from random import Random

from training.text.kinds import MONTHS

CONTEXT, SCHEMA, ANSWER, SILENT = 0.3, 0.15, 1.0, 0.0
FUNCTIONS = (
    "Given the following functions, please respond with a JSON for a function call with its proper arguments that best answers the given prompt.\n\n"
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.Do not use variables.\n\n'
)


@dataclass
class Document:
    """`segments`: (text, weight), special tokens written as their names with weight None before
    (they are marked by `special`). `answer_at`: index of the first segment of the last answer."""

    segments: list[tuple[str, float, bool]] = field(default_factory=list)
    answer_at: int = 0
    task: str = ""

    def special(self, name: str, weight: float = SILENT) -> None:
        self.segments.append((f"<|{name}|>", weight, True))

    def text(self, text: str, weight: float) -> None:
        if text:
            self.segments.append((text, weight, False))

    def header(self, role: str) -> None:
        self.special("start_header_id")
        self.text(role, SILENT)
        self.special("end_header_id")
        self.text("\n\n", SILENT)

    def message(self, role: str, *parts: tuple[str, float]) -> None:
        self.header(role)
        for text, weight in parts:
            self.text(text, weight)
        self.special("eot_id")

    def answer(self, text: str, call: bool = False, weight: float = ANSWER) -> None:
        """An assistant's message; `call` puts the python tag before and ends with eom."""
        self.header("assistant")
        self.answer_at = len(self.segments)
        if call:
            self.special("python_tag", weight)
        self.text(text, weight)
        self.special("eom_id" if call else "eot_id", weight)


def meta_date(rng: Random) -> str:
    return f"{rng.randint(1, 31)} {rng.choice(MONTHS)} {rng.randint(2024, 2028)}"


def hf_date(rng: Random) -> str:
    return f"{rng.randint(1, 31):02d} {rng.choice(MONTHS)[:3]} {rng.randint(2024, 2028)}"


HELPFUL = [
    "You are a helpful assistant",
    "You are a helpful assistant",
    "You are a helpful assistant",
    "You are a helpful assistant.",
]
SYSTEMS = [
    *HELPFUL, *HELPFUL, "You are a helpful AI assistant.", "You are an assistant.", "You are a helpful assistant that answers questions.", "Answer briefly.", "Be brief.",
    "You are a friendly assistant.", "You answer questions with the help of tools.", "You are a helpful assistant. Answer in one sentence.", "Help the user.", "You are cria.",
    "You are a helpful and honest assistant.", "You are a helpful assistant with tool calling capabilities. When you receive a tool call response, use the output to format an answer to the original question.",
    "You are a travel agent.", "You are a support agent for a shop.", "You are a careful research assistant.", "You help students.", "", "", "", "", "",
]  # fmt: skip


def start(
    rng: Random, form: str, builtin: list[str], functions: bool, system: str | None = None
) -> Document:
    """Begin of text and the system block of a form; `form` is meta, hf31, hf32 or none."""
    doc = Document()
    doc.special("begin_of_text")
    if form == "none":
        return doc
    system = rng.choice(SYSTEMS) if system is None else system
    tools = f"Tools: {', '.join(builtin)}\n" if builtin else ""
    if form == "plain":
        block = (f"Environment: ipython\n{tools}\n" if builtin else "") + system
    elif form == "meta":
        knowledge = f"Cutting Knowledge Date: December 2023\nToday Date: {meta_date(rng)}\n\n"
        block = (
            ("Environment: ipython\n" + tools if builtin or functions else "") + knowledge + system
        )
    else:
        date = "26 Jul 2024" if form == "hf31" and rng.random() < 0.7 else hf_date(rng)
        block = "Environment: ipython\n" if builtin or functions else ""
        if builtin:
            block += tools + "\n"
        block += f"Cutting Knowledge Date: December 2023\nToday Date: {date}\n\n{system}"
    if block:
        doc.message("system", (block, SILENT))
    return doc


def with_functions(doc: Document, rng: Random, schemas: list[dict], user: str) -> None:
    """The first user message with custom functions inside."""
    wording = FUNCTIONS if rng.random() < 0.9 else FUNCTIONS.replace("}.Do", "}. Do")
    parts = [(wording, SILENT)]
    for schema in schemas:
        parts.append((json.dumps(schema, indent=4, ensure_ascii=False) + "\n\n", SCHEMA))
    doc.message("user", *parts, (user, CONTEXT))


def tool_result(doc: Document, rng: Random, text: str, encoded: bool) -> None:
    """A tool's result in role ipython: raw as Meta writes it, or as a JSON string as the HF template does."""
    doc.message("ipython", (json.dumps(text, ensure_ascii=False) if encoded else text, CONTEXT))
