"""A function of our own, offered with azure-ai-inference: the model calls it, we answer, it tells.

GITHUB_TOKEN=any AZURE_INFERENCE_ENDPOINT=http://127.0.0.1:8080 python tools_azure.py
"""

import json
import os

from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import (
    AssistantMessage,
    ChatCompletionsToolDefinition,
    ChatRequestMessage,
    FunctionDefinition,
    ToolMessage,
    UserMessage,
)
from azure.core.credentials import AzureKeyCredential


def get_weather(city: str) -> str:
    return f"The weather in {city} is sunny, 21 degrees."


WEATHER = ChatCompletionsToolDefinition(
    function=FunctionDefinition(
        name="get_weather",
        description="Get the weather in a city",
        parameters={
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city"}},
            "required": ["city"],
        },
    )
)

client = ChatCompletionsClient(
    endpoint=os.environ.get("AZURE_INFERENCE_ENDPOINT", "http://127.0.0.1:8080"),
    credential=AzureKeyCredential(os.environ["GITHUB_TOKEN"]),
)
model = os.environ.get("PUNA_EXAMPLE_MODEL", "cria-text")
messages: list[ChatRequestMessage] = [UserMessage("What is the weather in Stockholm?")]
answer = client.complete(messages=messages, tools=[WEATHER], model=model)
choice = answer.choices[0]
for call in choice.message.tool_calls or []:
    print(f"{choice.finish_reason}: {call.function.name}({call.function.arguments})")
    result = get_weather(**json.loads(call.function.arguments))
    messages += [
        AssistantMessage(tool_calls=[call]),
        ToolMessage(tool_call_id=call.id, content=result),
    ]
    answer = client.complete(messages=messages, tools=[WEATHER], model=model)
print(answer.choices[0].message.content)
