"""python -m training.text [train | export | evaluate]: see training/README.md."""

import argparse
from pathlib import Path

HERE = Path(__file__).parents[1]
SHIPPED = HERE.parent / "src/puna/cria/text"

parser = argparse.ArgumentParser(prog="python -m training.text")
parser.add_argument(
    "what", nargs="?", choices=["train", "export", "evaluate", "tokenizer"], default="train"
)
parser.add_argument(
    "--run", type=Path, default=HERE / "runs/text", help="where checkpoints and the log are"
)
parser.add_argument(
    "--to", type=Path, default=SHIPPED, help="the checkpoint to write or to evaluate"
)
parser.add_argument(
    "--steps", type=int, help="length of the whole training, resumed parts included"
)
parser.add_argument("--decay-steps", type=int, help="how many of them have a falling learning rate")
parser.add_argument("--from", dest="start", type=Path, help="a checkpoint to go on from")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--count", type=int, default=500, help="documents in each held-out set")
arguments = parser.parse_args()

if arguments.what == "train":
    from training.text.train import Recipe, train

    recipe = Recipe(seed=arguments.seed, start=arguments.start)
    recipe.steps = arguments.steps or recipe.steps
    recipe.decay_steps = arguments.decay_steps or recipe.decay_steps
    train(arguments.run, recipe)
elif arguments.what == "export":
    from training.text.export import export

    export(arguments.run, arguments.to)
elif arguments.what == "tokenizer":
    from training.text.tokenizer import build

    build(arguments.to)
else:
    from training.text.evaluate import evaluate

    evaluate(arguments.to, arguments.count)
