"""Tests of writing a policy in another tool's format: every format, and what is said of it."""

import json
import random

import pytest

from limpq_hub import interop
from limpq_hub.errors import PolicyError
from limpq_hub.interop import FORMATS, write_policy_as
from limpq_hub.interop.fitting import round_up

EXACT = dict.fromkeys(["conv1", "layer1.0.conv1", "layer1.0.conv2", "fc"], (8, 8))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("model", ["resnet18", "mobilenetv1_100"])
def test_every_format_survives_json(policy, small_resnet, format, model):
    content, notes = write_policy_as(policy(model, small_resnet, 64), format)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert all(isinstance(note, str) and note for note in notes)


@pytest.mark.parametrize(("format", "count"), [("hawq", 0), ("nncf", 0), ("torchao", 1), ("quanto", 0)])
def test_nothing_is_noted_where_all_is_exact(policy, format, count):
    _, notes = write_policy_as(policy("resnet18", EXACT, 224), format)
    assert len(notes) == count


@pytest.mark.parametrize("format", FORMATS)
def test_what_no_tool_has_bits_for_is_left_out_and_named(policy, format):
    whole = policy("vit", EXACT | {"attn.qk": (4, 8), "attn:bmm": (32, 32)})
    content, notes = write_policy_as(whole, format, products=["attn.qk"])
    assert "attn" not in json.dumps(content)
    assert "left out, as they stay in float: attn:bmm" in notes
    assert f"left out, as {format} has no product of activations: attn.qk" in notes


@pytest.mark.parametrize("format", ["onnx", "HAWQ", "", None])
def test_an_unknown_format_is_refused_with_those_there_are(policy, format):
    message = rf"^no format {format!r}: a policy can be written as hawq, nncf, torchao, quanto$"
    with pytest.raises(ValueError, match=message):
        write_policy_as(policy("resnet18", EXACT), format)


def test_every_name_of_the_package_is_there():
    assert all(hasattr(interop, name) for name in interop.__all__)


@pytest.mark.parametrize("seed", range(20))
def test_rounding_is_never_down_and_never_further_than_needed(seed):
    rng = random.Random(seed)
    widths = {bits: f"type{bits}" for bits in [*rng.sample(range(2, 8), rng.randint(0, 5)), 8]}
    planned = {f"layer{index}": rng.randint(2, 8) for index in range(30)}
    written, notes = round_up(planned, widths, "weights")
    for layer, bits in planned.items():
        chosen = int(written[layer].removeprefix("type"))
        assert chosen in widths
        assert chosen >= bits
        assert not [width for width in widths if bits <= width < chosen]
        # A layer is named in the note of its bits, and in no other.
        naming = [note for note in notes if layer in note.partition(": ")[2].split(", ")]
        assert [note.split(" become ")[0] for note in naming] == ([] if bits == chosen else [f"weights of {bits} bits"])


def test_rounded_bits_are_counted_and_their_layers_named():
    _, notes = round_up({"a": 3, "b": 4, "c": 3, "d": 2}, {4: "int4"}, "weights")
    assert notes == ["weights of 2 bits become int4, in 1 layer: d", "weights of 3 bits become int4, in 2 layers: a, c"]


def test_bits_that_nothing_can_hold_are_refused_with_their_layer():
    with pytest.raises(PolicyError, match=r"^layer 'b': weights of 5 bits do not fit; this format holds at most 4$"):
        round_up({"a": 4, "b": 5}, {2: "int2", 4: "int4"}, "weights")


def test_writing_policies_loads_neither_torch_nor_the_tools(run_python):
    code = (
        "import sys\n"
        "from limpq_hub.interop import FORMATS, write_policy_as\n"
        "from limpq_hub.plan.policy import LayerBits, Policy\n"
        "policy = Policy('toynet', {'stem': LayerBits(8, 8)})\n"
        "for format in FORMATS:\n"
        "    write_policy_as(policy, format)\n"
        "print(*({'torch', 'torchao', 'nncf', 'optimum', 'yaml'} & set(sys.modules)), 'none')\n"
    )
    result = run_python(code)
    assert result.stdout == "none\n", result.stderr[-300:]
