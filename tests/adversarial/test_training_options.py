"""Numbers of every option of every training command, as no person means them: refused in one line, or of sense."""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from limpq_hub import load
from limpq_hub.errors import LimpqError
from limpq_hub.train import anchors, compare, finetune, front, indicators, pretrain, publish, validate
from limpq_hub.train.launching import run

COMMANDS = {
    module.__name__: module for module in (anchors, compare, finetune, front, indicators, pretrain, publish, validate)
}
NEEDED = {
    "pretrain": ["--model", "resnet18", "--data", "d", "--output", "o"],
    "indicators": ["--model", "resnet18", "--data", "d", "--output", "o"],
    "finetune": ["--model", "resnet18", "--bitops", "3G", "--data", "d", "--output", "o"],
    "validate": ["--model", "resnet18", "--bitops", "3G", "--data", "d"],
    "anchors": ["--model", "resnet18", "--data", "d", "--output", "o"],
    "front": ["--model", "resnet18", "--data", "d", "--output", "o"],
    "compare": ["--model", "resnet18", "--data", "d", "--output", "o"],
    "publish": ["--joint", "j", "--output", "o"],
}
# fmt: off
ODD = ("nan", "inf", "-inf", "-1", "-0.5", "1e400", "", " ", "0x10", "9" * 400, "1_0", "١", "½", "1e-400", "--",
       "\0", "1;")
# fmt: on
MOST = 10**9


def options_of(command: str) -> Iterator[argparse.Action]:
    """Yield the options of a command that take a value."""
    parsers: list[argparse.ArgumentParser] = []
    with pytest.MonkeyPatch.context() as patched:
        parse = argparse.ArgumentParser.parse_known_args
        patched.setattr(
            argparse.ArgumentParser,
            "parse_known_args",
            lambda self, *given, **named: parsers.append(self) or parse(self, *given, **named),
        )
        COMMANDS[f"limpq_hub.train.{command}"].parse_options(NEEDED[command])
    return (action for action in parsers[-1]._actions if action.option_strings and action.nargs != 0)


def numbers_in(value: object) -> Iterator[float]:
    """Yield every number in settings, however deep."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from numbers_in(item)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from numbers_in(getattr(value, name))


def check_answer(parse: Callable[[list[str]], object], words: list[str], capsys: pytest.CaptureFixture) -> None:
    """Parse what was typed: the exit code is 2 and one line says why, or every number is one that can be."""
    code, settings = 0, None
    try:
        settings = parse(words)
    except SystemExit as ended:
        code = ended.code
    told = capsys.readouterr().err.splitlines()
    if settings is None:
        assert code == 2, words
        assert "error: " in told[-1], words
        assert len(told[-1]) < 1000, words
    for number in numbers_in(settings):
        assert math.isfinite(number), words
        assert 0 <= number <= max(MOST, 2**32), words


def check_every_option(command: str, values: Callable[[], Iterable[str]], capsys: pytest.CaptureFixture) -> None:
    """Give each option of a command every one of the values."""
    parse = COMMANDS[f"limpq_hub.train.{command}"].parse_options
    for action in options_of(command):
        for odd in values():
            flag, count = action.option_strings[0], action.nargs if isinstance(action.nargs, int) else 1
            words = [f"{flag}={odd}"] if count == 1 else [flag, *[odd] * count]
            check_answer(parse, [*NEEDED[command], *words], capsys)


@pytest.mark.parametrize("command", NEEDED)
def test_odd_numbers_of_every_option_are_refused_in_one_line_or_of_sense(command, capsys):
    draw = random.Random(command)
    check_every_option(command, lambda: draw.sample(ODD, 3), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("command", NEEDED)
def test_all_odd_numbers_of_every_option_are_refused_in_one_line_or_of_sense(command, capsys):
    check_every_option(command, lambda: ODD, capsys)


# --- names that no file can have

TOO_LONG = "9" * 300
OUTPUT = ["--output", "o"]
DATA = ["--data", "d", *OUTPUT]
TWO = ["--batch-size", "2"]
AT_3G = ["--model", "resnet18", "--bitops", "3G"]
NAMES = {
    "weights": (indicators, ["--model", "resnet18", "--weights", "NAME", *DATA], "there is no such file"),
    "folder": (pretrain, ["--model", "resnet18", "--weights", "local-dir:NAME", *DATA], "there is no config.json"),
    "which weights": (validate, [*AT_3G, "--weights", "NAME", "--data", "d"], "argument --weights: invalid choice: "),
    "data": (validate, [*AT_3G, "--data", "NAME"], "there is no such folder"),
    "split": (pretrain, ["--model", "resnet18", "--train-split", "NAME", *DATA], "has no folder 999"),
    "root": (
        indicators,
        ["--model", "resnet18", "--data", "wds/x", "--data-root", "NAME", *OUTPUT],
        "there is no such",
    ),
    "unlabelled": (finetune, [*AT_3G, "--unlabelled", "NAME", *OUTPUT], "there is no such folder"),
    "policy": (finetune, ["--model", "resnet18", "--policy", "NAME", *DATA], "there is no file"),
    "teacher": (finetune, [*AT_3G, "--distill", "0.5", "--teacher", "NAME", *DATA, *TWO], "there is no such file"),
    "entry": (front, ["--model", "local-dir:NAME", *DATA], "there is no such folder"),
    "figures": (validate, [*AT_3G, "--data", "d", "--output", "NAME"], "cannot be written (File name too long)"),
    "front": (front, ["--model", "resnet18", "--data", "d", "--output", "NAME"], "; name another file"),
    "folder of figures": (
        validate,
        [*AT_3G, "--data", "d", "--output", "new/NAME/f"],
        "cannot be written (File name too",
    ),
    "exported": (validate, ["--exported", "NAME", "--data", "d"], "is no exported network: "),
}


@pytest.mark.parametrize("words", NAMES.values(), ids=list(NAMES))
def test_a_name_that_no_file_can_have_is_none_that_is_there(words, tmp_path, monkeypatch, capsys):
    command, argv, expected = words
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for split in ("train", "val"):
        goldfish = tmp_path / "d" / split / "n01443537"  # a class of ImageNet and of Tiny-ImageNet
        goldfish.mkdir(parents=True)
        for name in ("one.png", "two.png"):
            Image.new("RGB", (8, 8)).save(goldfish / name)
    with pytest.raises((LimpqError, SystemExit)) as caught:
        command.main([word.replace("NAME", TOO_LONG) for word in argv])
    told = str(caught.value) if isinstance(caught.value, LimpqError) else capsys.readouterr().err.splitlines()[-1]
    assert expected in told
    assert len(told) < 1000
    assert not (tmp_path / "o/options.json").exists()


def test_a_name_that_no_file_can_have_is_cut_where_the_system_refuses_it(capsys):
    def opened() -> None:
        Path(TOO_LONG).read_bytes()

    with pytest.raises(SystemExit) as ended:
        run(opened)
    assert ended.value.code == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "File name too long: '999" in line
    assert len(line) < 200


@pytest.mark.parametrize("given", [{"policy": TOO_LONG}, {"model": f"local-dir:{TOO_LONG}", "bitops": "3G"}], ids=list)
def test_a_name_that_no_file_can_have_is_told_by_the_library(given):
    with pytest.raises(LimpqError, match="there is no") as caught:
        load(**{"model": "resnet18"} | given)
    assert len(str(caught.value)) < 500
