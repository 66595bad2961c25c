"""The lesson's first program: the raw prompt of Llama 3.1 as system message, and a question that
the model answers with a call of its built-in search.

    GITHUB_TOKEN=any AZURE_INFERENCE_ENDPOINT=http://127.0.0.1:8080 python built_in_search.py
"""

import os

from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import SystemMessage, UserMessage
from azure.core.credentials import AzureKeyCredential

SYSTEM = """\
<|begin_of_text|><|start_header_id|>system<|end_header_id|>

Environment: ipython
Tools: brave_search, wolfram_alpha
Cutting Knowledge Date: December 2023
Today Date: 23 July 2024

You are a helpful assistant<|eot_id|>"""

client = ChatCompletionsClient(
    endpoint=os.environ.get("AZURE_INFERENCE_ENDPOINT", "http://127.0.0.1:8080"),
    credential=AzureKeyCredential(os.environ["GITHUB_TOKEN"]),
)
answer = client.complete(
    messages=[SystemMessage(SYSTEM), UserMessage("What is the weather in Stockholm?")],
    model="meta-llama-3.1-405b-instruct",
)
print(answer.choices[0].message.content)
