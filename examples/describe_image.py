"""The lesson's second program: a picture from a file, and what the model sees in it.

GITHUB_TOKEN=any AZURE_INFERENCE_ENDPOINT=http://127.0.0.1:8080 python describe_image.py
"""

import os
from pathlib import Path

from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import (
    ImageContentItem,
    ImageDetailLevel,
    ImageUrl,
    SystemMessage,
    TextContentItem,
    UserMessage,
)
from azure.core.credentials import AzureKeyCredential

PICTURE = Path(__file__).with_name("sample.jpg")

client = ChatCompletionsClient(
    endpoint=os.environ.get("AZURE_INFERENCE_ENDPOINT", "http://127.0.0.1:8080"),
    credential=AzureKeyCredential(os.environ["GITHUB_TOKEN"]),
)
picture = ImageUrl.load(image_file=str(PICTURE), image_format="jpg", detail=ImageDetailLevel.LOW)
answer = client.complete(
    messages=[
        SystemMessage("You are a helpful assistant that describes images in details."),
        UserMessage(
            [TextContentItem(text="What's in this image?"), ImageContentItem(image_url=picture)]
        ),
    ],
    model="Llama-3.2-90B-Vision-Instruct",
)
print(answer.choices[0].message.content)
