"""No server: a model in this process.

python python_api.py
"""

import asyncio
import os

import puna

model = puna.load(os.environ.get("PUNA_EXAMPLE_MODEL", "cria-text"))

reply = model.chat("Hello, who are you?")
print(reply.text)

for piece in model.stream([{"role": "user", "content": "What can you do?"}], max_tokens=60):
    print(piece, end="", flush=True)
print()


async def both() -> None:
    questions = ("Hello!", "Thank you!")
    replies = await asyncio.gather(*(model.achat(question) for question in questions))
    for question, answer in zip(questions, replies, strict=True):
        print(f"{question} -> {answer.text}")


asyncio.run(both())
model.close()
