"""A program from before: the retired address is written in it. It runs as it stands:

puna run -- python retired_address.py
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
    endpoint="https://models.inference.ai.azure.com",
    credential=AzureKeyCredential(os.environ["GITHUB_TOKEN"]),
)
answer = client.complete(
    messages=[
        SystemMessage(SYSTEM),
        UserMessage("What is 12.5 * 48?"),
    ],
    model="meta-llama-3.1-405b-instruct",
)
print(f"{answer.model}: {answer.choices[0].message.content}")
