"""The same with the openai client, which reads OPENAI_BASE_URL and OPENAI_API_KEY by itself.

OPENAI_API_KEY=any OPENAI_BASE_URL=http://127.0.0.1:8080/v1 python tools_openai.py
"""

import json
import os

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam


def get_weather(city: str) -> str:
    return f"The weather in {city} is sunny, 21 degrees."


WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city"}},
            "required": ["city"],
        },
    },
}

client = OpenAI()
model = os.environ.get("PUNA_EXAMPLE_MODEL", "cria-text")
messages: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "What is the weather in Stockholm?"}
]
answer = client.chat.completions.create(messages=messages, tools=[WEATHER], model=model)
choice = answer.choices[0]
for call in choice.message.tool_calls or []:
    if call.type != "function":
        continue
    print(f"{choice.finish_reason}: {call.function.name}({call.function.arguments})")
    result = get_weather(**json.loads(call.function.arguments))
    messages += [
        {"role": "assistant", "tool_calls": [call.to_dict()]},  # type: ignore[list-item]
        {"role": "tool", "tool_call_id": call.id, "content": result},
    ]
    answer = client.chat.completions.create(messages=messages, tools=[WEATHER], model=model)
print(answer.choices[0].message.content)
