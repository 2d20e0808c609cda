"""Tests of what a visitor asks for: the lines to copy give the policy that the page shows."""

import json
import shlex
import subprocess
import sys

import pytest
from _request import Request, parse_pins
from _zoo import searched_plan

from limpq_hub.errors import InfeasibleBudgetError, PolicyError

MODEL = "resnet18.tiny_imagenet"
REQUESTS = [
    Request(MODEL, 3.0),
    Request(MODEL, 2.5, megabytes=3.2),
    Request(MODEL, 2.0, alpha=3.5, pins="layer4.*=4,4 layer1.0.conv1=6,5"),
]


@pytest.mark.parametrize("asked", REQUESTS, ids=str)
def test_the_line_for_the_shell_writes_the_policy_that_is_shown(asked, tmp_path):
    program, *arguments = shlex.split(asked.shell())
    assert program == "limpq"
    subprocess.run(
        [sys.executable, "-m", "limpq_hub", *arguments], check=True, capture_output=True, cwd=tmp_path, timeout=60
    )
    assert json.loads((tmp_path / "policy.json").read_text()) == searched_plan(asked).policy.to_json()


@pytest.mark.parametrize("asked", REQUESTS, ids=str)
@pytest.mark.filterwarnings("ignore::limpq_hub.zoo.loading.NotFineTunedWarning")
def test_the_python_lines_find_and_load_the_policy_that_is_shown(asked):
    names = {}
    exec(asked.python(), names)
    assert names["plan"].policy == searched_plan(asked).policy
    assert names["model"].limpq.plan.policy == searched_plan(asked).policy


def test_pins_are_bits_by_pattern():
    assert parse_pins("  layer4.*=4,4\tfc=8,8 ") == {"layer4.*": (4, 4), "fc": (8, 8)}
    assert parse_pins("") == {}


@pytest.mark.parametrize("text", ["layer4", "layer4=4", "layer4=4,", "=4,4", "layer4=4;4", "layer4=40,4", "a=４,4"])
def test_what_is_no_pin_is_refused_with_an_example(text):
    with pytest.raises(PolicyError, match=r"is not a pin: write pattern=weight,activation, for example layer4\.\*=4,4"):
        parse_pins(text)


def test_a_pattern_that_is_pinned_twice_is_refused():
    with pytest.raises(PolicyError, match=r"'layer4\.\*' is pinned twice; keep one of them"):
        parse_pins("layer4.*=4,4 layer1.*=2,2 layer4.*=6,6")


def test_pins_of_any_length_are_not_read():
    with pytest.raises(PolicyError, match="the pins are 600 characters long; use at most 400"):
        parse_pins("a=4,4 " * 100)


def test_pins_that_fit_no_layer_and_sizes_that_nothing_meets_say_what_would():
    with pytest.raises(PolicyError, match="'layer9"):
        searched_plan(Request(MODEL, 3.0, pins="layer9.*=4,4"))
    with pytest.raises(InfeasibleBudgetError, match="size"):
        searched_plan(Request(MODEL, 3.0, megabytes=1.0))


def test_a_request_of_bitops_alone_says_so():
    assert Request(MODEL, 3.0, pins=" ").bitops_alone
    assert not Request(MODEL, 3.0, megabytes=3.0).bitops_alone
    assert not Request(MODEL, 3.0, alpha=1.0).bitops_alone
