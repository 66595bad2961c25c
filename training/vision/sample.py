"""Draws `examples/sample.jpg`, the picture of the lesson's second program: no training picture."""

from __future__ import annotations

from PIL import Image, ImageDraw

from training.vision.scenes import polygon
from training.vision.train import ROOT

WIDTH, HEIGHT, FINER = 640, 480, 4
SKY = (180, 214, 244)
THINGS = (
    ("circle", (246, 214, 52), 0.83, 0.2, 58),
    ("heart", (214, 40, 48), 0.5, 0.5, 68),
    ("triangle", (52, 154, 72), 0.17, 0.8, 68),
)


def main() -> None:
    image = Image.new("RGB", (WIDTH * FINER, HEIGHT * FINER), SKY)
    pen = ImageDraw.Draw(image)
    for shape, colour, x, y, radius in THINGS:
        cx, cy, r = x * WIDTH * FINER, y * HEIGHT * FINER, radius * FINER
        if shape == "circle":
            pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill=colour)
        else:
            pen.polygon([(cx + r * px, cy + r * py) for px, py in polygon(shape, 200)], fill=colour)
    image = image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    image.save(ROOT / "examples/sample.jpg", "JPEG", quality=92, optimize=True)


if __name__ == "__main__":
    main()
