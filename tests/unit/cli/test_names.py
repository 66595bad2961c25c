"""Who answers to the names of the retired endpoint."""

from puna.chat import ModelCard
from puna.cli.names import retired_names
from puna.scripted import ScriptedModel
from puna.server import create_app

LESSON = ("Meta-Llama-3.1-405B-Instruct", "Llama-3.2-90B-Vision-Instruct")


def model(name: str, *, sees: bool) -> ScriptedModel:
    modalities = ("text", "image") if sees else ("text",)
    return ScriptedModel("x", card=ModelCard(name=name, modalities=modalities))


def test_vision_names_reach_the_model_that_sees_and_the_others_the_one_that_does_not() -> None:
    names = retired_names({"eye": model("eye", sees=True), "pen": model("pen", sees=False)})
    assert [names[name] for name in LESSON] == ["pen", "eye"]


def test_one_model_answers_to_all_of_them() -> None:
    for sees in (True, False):
        assert set(retired_names({"one": model("one", sees=sees)}).values()) == {"one"}


def test_a_model_keeps_its_own_name() -> None:
    name = "Llama-3.2-90B-Vision-Instruct"
    models = {name: model(name, sees=True)}
    names = retired_names(models)
    assert name not in names
    create_app(models, aliases=names)  # no alias is the name of a loaded model
