"""The answer piece by piece, as it is made.

GITHUB_TOKEN=any AZURE_INFERENCE_ENDPOINT=http://127.0.0.1:8080 python streaming.py
"""

import os

from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import UserMessage
from azure.core.credentials import AzureKeyCredential

client = ChatCompletionsClient(
    endpoint=os.environ.get("AZURE_INFERENCE_ENDPOINT", "http://127.0.0.1:8080"),
    credential=AzureKeyCredential(os.environ["GITHUB_TOKEN"]),
)
updates = client.complete(
    messages=[UserMessage("Hello, who are you?")],
    model=os.environ.get("PUNA_EXAMPLE_MODEL", "cria-text"),
    stream=True,
)
for update in updates:
    for choice in update.choices:
        print(choice.delta.content or "", end="", flush=True)
print()
