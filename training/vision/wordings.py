"""How people ask about pictures, and what system messages they write before. One wording a line.

`{}` stands for what is asked about. `HELD_...` wordings are for the evaluation: training never
shows them. The lesson's own system message and question are among those that training does show.
Lines that occur several times are drawn more often; an empty line is an empty message.
"""

from __future__ import annotations


def lines(text: str) -> list[str]:
    return text.removeprefix("\n").removesuffix("\n").split("\n")


LESSON_SYSTEM = "You are a helpful assistant that describes images in details."
LESSON_QUESTION = "What's in this image?"
SYSTEMS = lines("""
You are a helpful assistant that describes images in details.
You are a helpful assistant that describes images in details.
You are a helpful assistant that describes images in details.
You are a helpful assistant.
You are a helpful assistant
You are a helpful assistant that describes images.
You describe pictures.
Describe images for the user.
You are an assistant that describes images in detail.
You are a helpful AI assistant.
You answer questions about images.
Be brief.
Answer briefly.
You are cria.
You are a friendly assistant.
Look at the picture and answer.
You are a vision assistant.
Help the user with images.
You are a careful assistant who looks at pictures.
You are an assistant for people who cannot see.
You are a helpful assistant that looks at photos.
Answer in one sentence.
You are a polite and helpful assistant.

""")
HELD_SYSTEMS = lines("""
You are an expert at describing images.
You are a helpful assistant who explains what pictures show.
Tell the user what you see.
You are an image captioning assistant.
You help people to understand pictures.
Please be a good assistant.
""")
DESCRIBE = lines("""
What's in this image?
What's in this image?
What's in this image?
What's in this image?
What is in this image?
What's in the image?
What is in the image?
What's in this picture?
What is in this picture?
What's in the picture?
Describe this image.
Describe the image.
Describe this picture.
Describe the picture.
Please describe this image.
Please describe the picture.
What do you see?
What can you see?
What do you see in this image?
What do you see in the picture?
What does this image show?
What does the picture show?
What is shown here?
What is this?
What's this?
Describe this image in detail.
Describe the image in details.
Can you describe this image?
Can you describe the picture?
Tell me about this image.
Tell me what you see.
Caption this image.
Write a caption.
Give a description of the image.
what's in this image?
what is in this image
describe this image
describe the picture
what do you see
What is on this picture?
What is in this photo?
Describe this photo.
What's in this photo?
Look at this image. What is in it?
Could you describe this image?
I cannot see this image. What is in it?
What is happening in this image?
Explain this image.
What objects are in this image?
What shapes are in the picture?
Which shapes are in this image?
List the things in this image.

Hello! What's in this image?
Hi, what is in this picture?
""")
HELD_DESCRIBE = lines("""
What can be seen in this image?
Could you tell me what this picture shows?
Please tell me what is in the picture.
Give me a description of this picture.
Describe what you see.
What is visible in this image?
Can you tell me what is in this image?
What does the photo show?
Please describe what the image shows.
Tell me what's in the picture.
""")
COUNT_ALL = lines("""
How many shapes are there?
How many shapes are in the image?
How many objects are there?
How many objects are in the picture?
How many things do you see?
Count the shapes.
Count the objects.
how many shapes are there
""")
HELD_COUNT_ALL = lines("""
How many shapes can you see?
How many objects do you see in this image?
Count all the shapes in the picture.
""")
COUNT = lines("""
How many {} are there?
How many {} are in the image?
How many {} are in this picture?
How many {} do you see?
How many {} does the image show?
Count the {}.
how many {} are there
""")
HELD_COUNT = lines("""
How many {} can you see?
Count the {} in this picture.
What is the number of {}?
""")
COLOUR = lines("""
What colour is the {}?
What color is the {}?
Which colour is the {}?
What is the colour of the {}?
What is the color of the {}?
Which colour does the {} have?
what color is the {}
""")
HELD_COLOUR = lines("""
Which color is the {}?
What colour does the {} have?
Tell me the colour of the {}.
""")
SHAPE = lines("""
What shape is the {} object?
What shape is the {} thing?
Which shape is {}?
What is the {} shape?
What is the {} object?
What {} shape is there?
What is {}?
""")
HELD_SHAPE = lines("""
Which shape does the {} object have?
What shape is {}?
What kind of shape is the {} one?
""")
WHERE = lines("""
Where is the {}?
Where is the {} in the image?
Where do you see the {}?
Where in the picture is the {}?
What is the position of the {}?
where is the {}
""")
HELD_WHERE = lines("""
Where can I find the {}?
In which part of the image is the {}?
Where exactly is the {}?
""")
EXISTS = lines("""
Is there {}?
Is there {} in the image?
Is there {} in this picture?
Do you see {}?
Can you see {}?
Does the image show {}?
is there {}
""")
HELD_EXISTS = lines("""
Does the picture contain {}?
Is {} in the picture?
Do you see {} anywhere?
""")
BACKGROUND = lines("""
What colour is the background?
What color is the background?
What is the background?
What is the colour of the background?
Which colour is the background?
Describe the background.
what color is the background
""")
HELD_BACKGROUND = lines("""
What color does the background have?
Tell me the background colour.
Which color is the background?
""")
PLACE = lines("""
What is {}?
What is {} of the image?
What do you see {}?
What's {}?
Which shape is {}?
What object is {}?
""")
HELD_PLACE = lines("""
What can you see {}?
Which object is {}?
What is there {}?
""")
BAND = lines("""
What colour is the {}?
What color is the {}?
What is the colour of the {}?
Which colour does the {} have?
""")
HELD_BAND = lines("""
Tell me the colour of the {}.
Which color is the {}?
""")
MAIN = lines("""
What colours are in this image?
What colors do you see?
Which colours are in the picture?
What is the main colour?
What are the main colours?
What are the colors?
""")
HELD_MAIN = lines("""
Which colors are in this photo?
What colours does the picture have?
Name the main colours.
""")
GREETINGS = lines("""
Hello
Hi!
Hello!
Who are you?
What can you do?
Hi, who are you?
Hey
Good morning
What is the weather in Stockholm?
Can you help me?
How are you?
Tell me a story.
What is two and two?
Write a poem.
""")
