"""Tests of the LIMPQ authors' policies: each published form, matched with the layers of the network, and refusals."""

import json
from pathlib import Path

import pytest

from limpq_hub.errors import ArtifactFormatError, PolicyError
from limpq_hub.interop import policy_from_lists, read_limpq_policy
from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.policy import LayerBits

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "limpq_resnet50_policy.json"
EXPECTED = {"stem": (8, 8), "block.conv1": (6, 5), "block.conv2": (2, 3), "head": (8, 8)}
TRAINING = """
# Experiment name
name: toynet_w3a4
weight_bits: [6, 2]
act_bits:    [5, 3]
resume:
  path:
quan:
  act: {mode: lsq, bit: 2}
  excepts:
    stem: {act: {bit: }, weight: {bit: }}
lr: 0.04
"""
PRINTED = """total_params 1000
layer block.conv1 weight 6 act 5
********
searched weight bit-widths [6, 2]
searched act bit-widths [5, 3]
"""


@pytest.fixture
def costs():
    """Two searched layers between two fixed ones."""
    fixed = {"stem": LayerBits(8, 8), "head": LayerBits(8, 8)}
    return {name: LayerCost(1000, 1000, 100, 64, signed=False, fixed=fixed.get(name)) for name in EXPECTED}


@pytest.fixture
def read(tmp_path, costs):
    """A function that reads a policy from text or bytes, and returns its bits by layer name."""

    def bits_in(content):
        path = tmp_path / "policy.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        found = read_limpq_policy(path, model="toynet", costs=costs, input_size=32)
        assert (found.model, found.input_size) == ("toynet", 32)
        assert list(found.layers) == list(costs)
        return {name: (bits.weight, bits.activation) for name, bits in found.layers.items()}

    return bits_in


def by_name(**changes):
    """A policy by layer name, as JSON."""
    layers = {name: {"weight": weight, "activation": bits} for name, (weight, bits) in EXPECTED.items()}
    return json.dumps({"layers": {name: bits for name, bits in (layers | changes).items() if bits is not None}})


@pytest.mark.parametrize(
    "content",
    [
        TRAINING,
        PRINTED,
        PRINTED.replace("\n", "\r\n"),
        "weight_bits: [8, 6, 2, 8]\nact_bits: [8, 5, 3, 8]",
        "weight_bits:\n- 6\n- 2\nact_bits:\n- 5\n- 3\n",
        by_name(),
        by_name(stem=None, head=None),
        by_name().replace('"block', '"module.block'),
        json.dumps({"weight_bits": [6, 2], "act_bits": [5, 3]}),
    ],
    ids=["yaml", "printed", "printed_crlf", "with_fixed", "block_lists", "names", "searched", "prefix", "json"],
)
def test_every_form_gives_the_same_policy(read, content):
    assert read(content) == EXPECTED


def test_names_may_stand_in_any_order(read):
    assert (
        read("layers:\n  block.conv2: {weight: 2, activation: 3}\n  block.conv1: {weight: 6, activation: 5}\n")
        == EXPECTED
    )


def test_lists_follow_the_order_of_the_costs(costs):
    turned = dict(reversed(costs.items()))
    found = policy_from_lists([6, 2], [5, 3], model="toynet", costs=turned)
    assert found.layers["block.conv2"] == LayerBits(6, 5)
    assert found.layers["block.conv1"] == LayerBits(2, 3)
    assert found.input_size is None


def test_a_network_without_fixed_layers_takes_a_bit_for_each(costs):
    searched = {name: costs[name] for name in ("block.conv1", "block.conv2")}
    found = policy_from_lists([6, 2], [5, 3], model="toynet", costs=searched)
    assert list(found.layers.values()) == [LayerBits(6, 5), LayerBits(2, 3)]


@pytest.mark.skipif(not REFERENCE.is_file(), reason="../shared/reference is absent")
def test_the_published_policy_of_resnet50_is_the_same_by_name_and_by_list(tmp_path):
    published = json.loads(REFERENCE.read_text())["layers"]
    fixed = LayerCost(1, 1, 1, 1, signed=False, fixed=LayerBits(8, 8))
    searched = LayerCost(1, 1, 1, 1, signed=False)
    costs = {"conv1": fixed, **dict.fromkeys(published, searched), "fc": fixed}
    named = read_limpq_policy(REFERENCE, model="resnet50", costs=costs)
    path = tmp_path / "finetune.yaml"
    path.write_text(
        f"weight_bits: {[bits['weight'] for bits in published.values()]}\n"
        f"act_bits: {[bits['activation'] for bits in published.values()]}\n"
    )
    assert read_limpq_policy(path, model="resnet50", costs=costs) == named
    assert len(named.layers) == 54
    assert named.layers["layer1.0.conv2"] == LayerBits(3, 4)
    assert named.layers["layer4.2.conv3"] == LayerBits(2, 6)


@pytest.mark.parametrize(
    ("weights", "activations", "message"),
    [
        ([6, 2], [5], r"^2 weight and 1 activation bit-widths: give one of each per layer$"),
        (
            [6, 2, 2],
            [5, 3, 3],
            r"^3 bit-widths do not fit toynet, which has 2 searched layers, 4 with the fixed ones; is the model",
        ),
        ([], [], r"^0 bit-widths do not fit toynet"),
        ([6, 9], [5, 3], r"^layer 'block\.conv2': weight bits of 9 cannot be: use a whole number from 2 to 8$"),
        ([6, 2], [1, 3], r"^layer 'block\.conv1': activation bits of 1 cannot be"),
        ([6, 2], [5, True], r"^layer 'block\.conv2': activation bits of True cannot be"),
        ([6, 2.0], [5, 3], r"^layer 'block\.conv2': weight bits of 2\.0 cannot be"),
        ([6, None], [5, 3], r"^layer 'block\.conv2': weight bits of None cannot be"),
        (
            [4, 6, 2, 8],
            [8, 5, 3, 8],
            r"^layer 'stem' is fixed at LayerBits\(weight=8, activation=8\), the policy has LayerBits\(weight=4, "
            r"activation=8\); leave it out$",
        ),
    ],
)
def test_lists_that_do_not_fit_are_refused(read, costs, weights, activations, message):
    with pytest.raises(PolicyError, match=message):
        policy_from_lists(weights, activations, model="toynet", costs=costs)
    with pytest.raises(PolicyError, match=message.replace("^", r"policy\.yaml: ")):
        read(json.dumps({"weight_bits": weights, "act_bits": activations}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (by_name(**{"block.conv1": None}), r"policy\.yaml: the policy lacks 'block\.conv1'; give bits for every layer"),
        (by_name(tail={"weight": 4, "activation": 4}), r"policy\.yaml: the policy has 'tail', which is nothing of"),
        (by_name(head={"weight": 8, "activation": 4}), r"policy\.yaml: layer 'head' is fixed at .*; leave it out$"),
        (
            by_name(**{"block.conv1": {"weight": 4}}),
            r"layer 'block\.conv1' needs exactly \"weight\" and \"activation\" bits: found {'weight': 4}",
        ),
        (by_name(**{"block.conv1": [4, 4]}), r"layer 'block\.conv1' needs exactly \"weight\" and \"activation\" bits"),
        (
            by_name(**{"module.block.conv1": {"weight": 4, "activation": 4}}),
            r"policy\.yaml: layer 'block\.conv1' stands twice; keep one",
        ),
        ("layers: {1: {weight: 4, activation: 4}}", r"policy\.yaml: the policy lacks 'block\.conv1'"),
    ],
    ids=["missing", "foreign", "fixed", "one_kind", "pair", "twice", "number"],
)
def test_layers_that_do_not_fit_are_refused_by_name(read, content, message):
    with pytest.raises(PolicyError, match=message):
        read(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x04}.", r"policy\.yaml is not text: .*; is this the right file\?"),
        ("weight_bits: [6, 2", r"policy\.yaml is not YAML: "),
        ("[" * 5000, r"policy\.yaml is not YAML: "),
        ("when: 2001-99-99", r"policy\.yaml is not YAML: "),
        ("!!python/object/apply:os.system ['touch executed']", r"policy\.yaml is not YAML: could not determine a con"),
        ("a: 1\n---\nb: 2", r"policy\.yaml is not YAML: "),
        ("", r"policy\.yaml holds no policy: found None instead of keys and values"),
        ("[6, 2]", r"policy\.yaml holds no policy: found \[6, 2\] instead of keys and values"),
        ("just text", r"policy\.yaml holds no policy: found 'just text' instead"),
        ("lr: 0.04", r"policy\.yaml holds no policy: it needs the lists \"weight_bits\" and .*; found \['lr'\]$"),
        ("weight_bits: [6, 2]", r"it needs the lists .*; found \['weight_bits'\]$"),
        ("weight_bits: 62\nact_bits: [5, 3]", r"it needs the lists \"weight_bits\" and \"act_bits\""),
        ("weight_bits: {a: 6}\nact_bits: {a: 5}", r"it needs the lists \"weight_bits\" and \"act_bits\""),
        ("weight_bits: [6, 2]\nact_bits: [5, 3]\nlayers: {}", r"it needs the lists .*'act_bits', 'layers'\]$"),
        ("layers: [1]", r"it needs the lists .*; found \['layers'\]$"),
        ("weight_bits: [2, 2]\n" + TRAINING, r"policy\.yaml: the key 'weight_bits' stands twice; keep one"),
        (
            "layers:\n  block.conv1: {weight: 2, activation: 2}\n  block.conv1: {weight: 6, activation: 5}\n",
            r"policy\.yaml: the key 'block\.conv1' stands twice; keep one",
        ),
        (PRINTED + PRINTED, r"policy\.yaml: one line of weight and one of act bit-widths make a policy, found 4; keep"),
        (PRINTED.replace("searched act", "found act"), r"one line of weight and one of act .* found 1; keep one run"),
        (PRINTED.replace("[6, 2]", "[6, 2,]"), r"policy\.yaml is not JSON: "),
    ],
)
def test_what_is_no_policy_is_refused_and_not_executed(read, tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactFormatError, match=message):
        read(content)
    assert not (tmp_path / "executed").exists()


def test_a_message_does_not_grow_with_the_file(read):
    aliases = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
    for content in (
        aliases,
        aliases + "weight_bits: [*a59, 2]\nact_bits: [5, 3]",
        aliases + "layers: {block.conv1: *a59, block.conv2: *a59}",
        f"layers: {{{'x' * 100_000}: 4, block.conv1: 4, block.conv2: 4}}",
    ):
        with pytest.raises((ArtifactFormatError, PolicyError)) as caught:
            read(content)
        assert len(str(caught.value)) < 500


def test_a_missing_file_is_an_error_of_the_system(tmp_path, costs):
    with pytest.raises(FileNotFoundError, match=r"missing\.yaml"):
        read_limpq_policy(tmp_path / "missing.yaml", model="toynet", costs=costs)


def test_reading_and_writing_policies_loads_neither_torch_nor_the_tools(run_python, tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(TRAINING)
    code = (
        "import sys\n"
        "from limpq_hub.interop import FORMATS, read_limpq_policy, write_policy_as\n"
        "assert 'yaml' not in sys.modules\n"
        "from limpq_hub.plan.costs import LayerCost\n"
        "costs = {name: LayerCost(1, 1, 1, 1, signed=False) for name in ('block.conv1', 'block.conv2')}\n"
        f"policy = read_limpq_policy({str(path)!r}, model='toynet', costs=costs)\n"
        "for format in FORMATS:\n"
        "    write_policy_as(policy, format)\n"
        "print(*({'torch', 'torchao', 'nncf', 'optimum'} & set(sys.modules)), 'none')\n"
    )
    result = run_python(code)
    assert result.stdout == "none\n", result.stderr[-300:]
