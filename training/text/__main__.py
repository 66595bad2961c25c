"""python -m training.text: train (resumes by itself), export, evaluate."""

import argparse
from pathlib import Path

from training.text.train import Recipe, train

parser = argparse.ArgumentParser(prog="python -m training.text")
parser.add_argument("--run", type=Path, default=Path(__file__).parents[1] / "runs/text")
parser.add_argument("--steps", type=int, default=Recipe.steps)
parser.add_argument("--seed", type=int, default=Recipe.seed)
arguments = parser.parse_args()
train(arguments.run, Recipe(steps=arguments.steps, seed=arguments.seed))
