"""Recipes: their values are used, what is typed wins, and what cannot be used is named with exit code 2."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import yaml

from limpq_hub.train import finetune, indicators, pretrain
from limpq_hub.train.options import add_data_options, parse, parser_of
from limpq_hub.train.recipe import FOLDER, names
from limpq_hub.train.training_options import add_quantizer_options, add_training_options

TYPED = ["--data", "pictures", "--output", "out"]
COMMANDS = {"pretrain": pretrain, "indicators": indicators, "finetune": finetune}


def options_of(recipe: Path | str, *typed: str, script: str = "indicators"):
    parser = parser_of("A command.", "indicators")
    add_data_options(parser)
    add_training_options(parser, epochs=5, lr=0.01, weight_decay=0.0)
    add_quantizer_options(parser)
    parser.add_argument("--candidates", type=int, nargs="+", default=[6])
    parser.add_argument("--share-stem", action=argparse.BooleanOptionalAction, default=True)
    return parse(parser, script, [*TYPED, "--recipe", str(recipe), *typed])


@pytest.fixture
def recipe(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write


def error_of(capsys, path: Path | str, *typed: str, **script: str) -> str:
    with pytest.raises(SystemExit) as caught:
        options_of(path, *typed, **script)
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_the_values_of_the_scripts_section_are_used(recipe):
    options = options_of(
        recipe("indicators:\n  epochs: 7\n  weight-decay: 2.5e-5\n  lr: 1e-3\npretrain:\n  epochs: 9\n")
    )
    assert (options.epochs, options.weight_decay, options.lr) == (7, 2.5e-5, 1e-3)
    assert options.batch_size == 128


def test_what_is_typed_wins(recipe):
    path = recipe("indicators:\n  epochs: 7\n  candidates: [4, 3]\n  float64: true\n")
    options = options_of(path, "--epochs", "2", "--candidates", "8", "5", "3")
    assert (options.epochs, options.candidates, options.float64) == (2, [8, 5, 3], True)


def test_what_a_recipe_switches_on_is_switched_off_again(recipe):
    path = recipe("indicators:\n  cache-images: true\n  channels-last: true\n  auto-augment: rand-m6-mstd0.5\n")
    assert (options_of(path).cache_images, options_of(path).channels_last) == (True, True)
    back = ["--no-cache-images", "--no-channels-last", "--auto-augment", "none"]
    options = options_of(path, *back, "--color-jitter", "0.4")
    assert (options.cache_images, options.channels_last) == (False, False)
    assert (options.auto_augment, options.color_jitter) == (None, 0.4)


def test_what_is_typed_before_the_recipe_wins_too(recipe):
    path = recipe("indicators:\n  epochs: 7\n")
    parser = parser_of("A command.", "indicators")
    parser.add_argument("--epochs", type=int)
    assert parse(parser, "indicators", ["--epochs", "2", f"--recipe={path}"]).epochs == 2


def test_lists_and_booleans_are_options_of_the_command_line(recipe):
    path = recipe(
        "indicators:\n  crop-scale: [0.5, 0.75]\n  candidates: [4, 2]\n  share-stem: false\n  cache-images: true\n"
    )
    options = options_of(path)
    assert options.crop_scale == [0.5, 0.75]
    assert options.candidates == [4, 2]
    assert options.share_stem is False
    assert options.cache_images is True
    assert options_of(path, "--share-stem").share_stem is True


def test_required_options_may_come_from_the_recipe(recipe):
    parser = parser_of("A command.", "indicators")
    parser.add_argument("--model", required=True)
    path = recipe("indicators:\n  model: resnet18\n")
    assert parse(parser, "indicators", ["--recipe", str(path)]).model == "resnet18"


def test_without_a_recipe_nothing_changes():
    parser = parser_of("A command.", "indicators")
    parser.add_argument("--epochs", type=int, default=3)
    options = parse(parser, "indicators", [])
    assert (options.epochs, options.recipe) == (3, None)


def test_an_option_that_the_script_does_not_have_is_named(capsys, recipe):
    message = error_of(capsys, recipe("indicators:\n  epochs: 7\n  batch_size: 3\n"))
    assert "unrecognized arguments: --batch_size 3" in message


def test_a_value_of_the_wrong_type_is_named(capsys, recipe):
    message = error_of(capsys, recipe("indicators:\n  epochs: many\n"))
    assert "argument --epochs: 'many' is not a whole number of at least 1" in message
    assert "argument --lr: 0 is not above 0" in error_of(capsys, recipe("indicators:\n  lr: 0\n"))
    assert "argument --ema: 2 is not at least 0 and below 1" in error_of(capsys, recipe("indicators:\n  ema: 2\n"))


def test_an_abbreviated_option_is_named(capsys, recipe):
    assert "unrecognized arguments: --epoch 3" in error_of(capsys, recipe("indicators:\n  epoch: 3\n"))


def test_an_unknown_recipe_is_named_with_those_that_exist(capsys):
    message = error_of(capsys, "nosuch")
    assert f"--recipe nosuch: there is no such file; recipes are {', '.join(names())}" in message


def test_a_missing_file_is_named(capsys, tmp_path):
    assert f"--recipe {tmp_path}/nosuch.yaml: there is no such file" in error_of(capsys, tmp_path / "nosuch.yaml")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pretrain:\n  epochs: 3\nfinetune: {}\n", "pretrain, finetune"),
        ("indicators: 3\n", "indicators"),
        ("indicators:\n", "indicators"),
        ("- epochs\n", "none"),
        ("epochs\n", "none"),
        ("", "none"),
    ],
)
def test_a_recipe_without_the_scripts_section_is_named_with_its_sections(capsys, recipe, text, found):
    path = recipe(text)
    message = error_of(capsys, path)
    assert message.endswith(f"--recipe {path} has no section 'indicators'; its sections: {found}")


@pytest.mark.parametrize("text", ["indicators: [1, 2\n", "a: b: c\n", "indicators:\n\t- x\n"])
def test_a_file_that_is_not_yaml_is_named(capsys, recipe, text):
    path = recipe(text)
    assert f"--recipe {path}: not YAML (" in error_of(capsys, path)


def test_a_recipe_executes_no_code(capsys, recipe, tmp_path):
    path = recipe(f"indicators: !!python/object/apply:pathlib.Path.touch [!!python/name:x '{tmp_path}/executed']\n")
    assert "not YAML (could not determine a constructor" in error_of(capsys, path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("value", ["!!int ''", "!!int x", "!!bool maybe", "!!timestamp abc", "!!float x"])
def test_a_recipe_with_a_value_that_is_not_of_its_tag_is_refused_with_its_path(tmp_path, capsys, value):
    path = tmp_path / "tagged.yaml"
    path.write_text(f"pretrain:\n  lr: {value}\n")
    assert f"--recipe {path}: not YAML (" in error_of(capsys, path)


def test_a_binary_file_is_named(capsys, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"indicators:\n  epochs: \xff\xfe\n")
    assert f"--recipe {path}: not YAML (" in error_of(capsys, path)


def test_a_switch_set_to_false_is_left_out(recipe):
    assert options_of(recipe("indicators:\n  cache-images: false\n")).cache_images is False


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("smoothing: off", "argument --smoothing: "),
        ("warmup-epochs: no", "argument --warmup-epochs: "),
        ("epochs: no", "argument --epochs: 'no' is not a whole number of at least 1"),
        ("optimizer: off", "argument --optimizer: invalid choice: 'off'"),
        ("optimizer:", "optimizer has no value; give it one, or leave the line out"),
        ("candidates: []", "candidates has no value; give it one, or leave the line out"),
        ("float64: 3", "float64 is true or false, not 3"),
        ("no-cache-images: maybe", "no-cache-images is true or false, not maybe"),
        ("recipe: nonsense", "recipe: one recipe names no other; write its options out"),
        ("lr: 0.1\n  epochs: 3\n  lr: 0.001", "lr stands twice; leave one of them out"),
    ],
)
def test_what_a_recipe_cannot_mean_is_told_and_not_left_out(capsys, recipe, line, told):
    assert told in error_of(capsys, recipe(f"indicators:\n  {line}\n"))


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("mixed-precision: no", "mixed_precision", "no"),
        ("seed: 010", "seed", 10),
        ("lr: 1e-3", "lr", 1e-3),
        ("auto-augment: none", "auto_augment", None),
        ("<<: {lr: 0.5, seed: 3}\n  seed: 4", "seed", 4),
        ("<<: {lr: 0.5, seed: 3}\n  seed: 4", "lr", 0.5),
        ("share-stem: Off", "share_stem", False),
        ("no-share-stem: yes", "share_stem", False),
        ("cache-images: on", "cache_images", True),
    ],
)
def test_a_value_of_a_recipe_is_what_would_be_typed(recipe, line, name, value):
    assert getattr(options_of(recipe(f"indicators:\n  {line}\n")), name) == value


@pytest.mark.parametrize("name", names())
def test_every_recipe_of_the_project_is_understood_by_its_commands(name):
    for command in yaml.safe_load((FOLDER / f"{name}.yaml").read_text()):
        settings = COMMANDS[command].parse_options([*TYPED, "--model", "resnet18", "--recipe", name])
        assert settings.training.invocation.options["recipe"] == name
