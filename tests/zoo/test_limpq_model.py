"""Tests of the type of what `load` returns: a type checker knows it, and it is a network of timm all the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm

from limpq_hub import LimpqModel, load

ROOT = Path(__file__).parent.parent.parent
USER_CODE = """
import torch
from torch import nn

import limpq_hub


def train(network: nn.Module) -> None: ...


model = limpq_hub.load("resnet18", bitops="3G")
reveal_type(model.limpq.weights)
reveal_type(model.limpq.plan.bitops)
reveal_type(model.limpq.top1)
reveal_type(model.eval())
model(torch.zeros(1, 3, 64, 64))
train(model)
annotated: limpq_hub.LimpqModel = model
model.limpq.wieghts
limpq_hub.load("resnet18", bitop="3G")
"""


@pytest.mark.slow  # without the cache that `mypy` leaves behind it takes half a minute
def test_a_type_checker_knows_what_load_returns(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(USER_CODE)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(tmp_path / "user.py")],
        cwd=ROOT,
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    # What mypy keeps of an earlier run names the folder of that one.
    said = [line.partition(": ")[2] for line in done.stdout.splitlines() if f"{os.sep}user.py:" in line]
    assert said[:4] == [
        "note: Revealed type is \"Literal['finetuned'] | Literal['joint'] | Literal['random']\"",
        'note: Revealed type is "int"',
        'note: Revealed type is "float | None"',
        'note: Revealed type is "limpq_hub.zoo.limpq_model.LimpqModel"',
    ], done.stdout
    wrong = [line.partition("error: ")[2] for line in said if "error: " in line]
    assert [line.split(";")[0] for line in wrong] == [
        '"Loaded" has no attribute "wieghts"',
        'Unexpected keyword argument "bitop" for "load"',
    ], done.stdout


def test_the_network_is_one_of_timm_with_a_record_that_cannot_be_changed(tiny):
    model = load(tiny.name, bitops="w3a3")
    assert type(model) is type(timm.create_model("test_resnet"))
    assert not model.training
    assert not isinstance(model, LimpqModel)
    with pytest.raises(AttributeError, match="cannot assign to field 'weights'"):
        model.limpq.weights = "joint"
