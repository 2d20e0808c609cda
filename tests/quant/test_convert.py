"""Tests of the conversion to a supernet and to one policy, with the quantized tensors watched where they are used."""

import copy
import random

import pytest
import timm
import torch
from torch import nn

from limpq_hub.errors import PolicyError
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import architecture_of, read_policy, select_policy, set_policy_, to_quantized, to_supernet
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.quant.switchable_batch_norm import SwitchableBatchNorm2d

CANDIDATES = (6, 4, 3, 2)
FIXED = LayerBits(8, 8)
LAYERS = ["stem", "expand", "depthwise", "project", "final", "classifier"]


def changed(policy: Policy, **layers: LayerBits | None) -> Policy:
    """`policy` with other bits for some layers; None leaves the layer out."""
    merged = {**policy.layers, **layers}
    return Policy(policy.model, {name: bits for name, bits in merged.items() if bits is not None})


def test_to_supernet_leaves_the_network_unchanged(network, images, state_of):
    before = state_of(network)
    supernet = to_supernet(network, CANDIDATES, example_input=images)
    assert state_of(network) == before
    with torch.no_grad():
        for value in supernet.state_dict().values():
            value.zero_()
    assert state_of(network) == before


def test_to_quantized_leaves_the_network_unchanged(network, images, state_of, policy_of):
    before = state_of(network)
    quantized = to_quantized(network, policy_of(0), example_input=images)
    assert state_of(network) == before
    with torch.no_grad():
        for value in quantized.state_dict().values():
            value.zero_()
    assert state_of(network) == before


def test_searched_layers_get_every_candidate_and_the_ends_eight_bits(supernet):
    found = {
        name: (layer.weight_quantizer.candidates, layer.activation_quantizer.candidates)
        for name, layer in quantized_layers(supernet)
    }
    ends = dict.fromkeys(("stem", "classifier"), ((8,), (8,)))
    assert found == {**dict.fromkeys(LAYERS, (CANDIDATES, CANDIDATES)), **ends}


def test_candidates_are_sorted_from_most_to_fewest_bits(network, images):
    supernet = to_supernet(network, (2, 6, 4, 3), example_input=images)
    assert supernet.expand.weight_quantizer.candidates == CANDIDATES
    assert list(supernet.expand_norm.copies) == ["6", "4", "3", "2"]


def test_candidates_out_of_two_to_eight_are_refused(network, images):
    with pytest.raises(PolicyError, match=r"^weight bits of 9 cannot be: use a whole number from 2 to 8$"):
        to_supernet(network, (9, 4), example_input=images)


def test_ends_run_in_float_during_joint_training_and_at_eight_bits_once_named(supernet, policy_of):
    policy = policy_of(0)
    assert {name for name, layer in quantized_layers(supernet) if layer.bits is None} == {"stem", "classifier"}
    set_policy_(supernet, policy)
    assert supernet.stem.bits == supernet.classifier.bits == FIXED
    set_policy_(supernet, changed(policy, stem=None, classifier=None))
    assert supernet.stem.bits is None
    assert supernet.classifier.bits is None


def test_inputs_get_the_sign_that_they_have(supernet):
    found = {name for name, layer in quantized_layers(supernet) if layer.activation_quantizer.signed}
    assert "stem" in found
    assert "final" in found  # fed by the linear bottleneck
    assert not found & {"expand", "depthwise", "project", "classifier"}
    assert all(layer.weight_quantizer.signed for _, layer in quantized_layers(supernet))


def test_norms_after_searched_layers_become_switchable_and_the_one_after_the_first_stays(supernet):
    switches = {name: norm.layer for name, norm in supernet.named_modules() if isinstance(norm, SwitchableBatchNorm2d)}
    assert switches == {f"{name}_norm": name for name in ("expand", "depthwise", "project", "final")}
    assert type(supernet.stem_norm) is nn.BatchNorm2d


@pytest.mark.parametrize("bits", CANDIDATES)
def test_joint_training_reaches_every_parameter_of_the_active_bits_only(bits, supernet, images, policy_of):
    uniform = {name: LayerBits(bits, bits) for name in LAYERS[1:-1]}
    set_policy_(supernet, Policy("Bottleneck", uniform)).train()
    supernet(images).square().sum().backward()
    place = CANDIDATES.index(bits)
    for name in uniform:
        layer = supernet.get_submodule(name)
        assert layer.weight.grad is not None
        for quantizer in (layer.weight_quantizer, layer.activation_quantizer):
            assert quantizer.step.grad.nonzero().flatten().tolist() in ([place], [])
        copies = supernet.get_submodule(f"{name}_norm").copies
        assert [key for key, norm in copies.items() if norm.weight.grad is not None] == [str(bits)]
    assert supernet.stem.weight_quantizer.step.grad is None


@pytest.mark.parametrize("seed", range(5))
def test_policy_set_is_the_policy_read(seed, supernet, policy_of):
    policy = policy_of(seed)
    assert set_policy_(supernet, policy) is supernet
    assert read_policy(supernet) == policy
    for name in LAYERS[1:-1]:
        assert supernet.get_submodule(f"{name}_norm").bits == policy.layers[name].weight


def test_policy_of_a_quantized_network_is_the_one_it_was_made_for(network, images, policy_of):
    policy = policy_of(1)
    quantized = to_quantized(network, policy, example_input=images)
    assert read_policy(quantized) == policy
    assert not any(isinstance(module, SwitchableBatchNorm2d) for module in quantized.modules())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": FIXED}, "^the policy names layer 'head', which is not a quantized layer of the network$"),
        ({"project": None}, "^the policy gives no bits for layer 'project'$"),
        ({"final": LayerBits(5, 4)}, "^layer 'final': 5 weight bits cannot be set: the candidates are 6, 4, 3, 2$"),
        ({"final": LayerBits(4, 8)}, "^layer 'final': 8 activation bits cannot be set: the candidates are 6, 4, 3, 2$"),
        ({"classifier": LayerBits(4, 8)}, "^layer 'classifier': 4 weight bits cannot be set: the candidates are 8$"),
    ],
    ids=["foreign layer", "missing layer", "weight bits", "activation bits", "bits of a fixed layer"],
)
def test_policy_that_does_not_fit_is_refused_and_changes_nothing(change, message, supernet, policy_of, state_of):
    set_policy_(supernet, policy_of(0))
    before = read_policy(supernet), state_of(supernet)
    wrong = changed(policy_of(3), **change)
    with pytest.raises(PolicyError, match=message):
        set_policy_(supernet, wrong)
    assert (read_policy(supernet), state_of(supernet)) == before
    with pytest.raises(PolicyError, match=message):
        select_policy(supernet, wrong)


def test_missing_layer_is_refused_also_with_a_single_candidate(network, images, policy_of):
    supernet = to_supernet(network, (4,), example_input=images)
    before = read_policy(supernet)
    with pytest.raises(PolicyError, match=r"^the policy gives no bits for layer 'expand'$"):
        set_policy_(supernet, Policy("Bottleneck", {"stem": FIXED, "classifier": FIXED}))
    assert read_policy(supernet) == before


def test_quantized_network_needs_bits_for_exactly_its_layers(network, images, policy_of):
    wrong = changed(policy_of(0), head=FIXED, project=None)
    message = r"^the policy is for other layers: it lacks project; it has foreign head; give bits for exactly the 6 "
    with pytest.raises(PolicyError, match=message):
        to_quantized(network, wrong, example_input=images)


@pytest.mark.parametrize("seed", range(5))
def test_selected_policy_answers_bit_equal_to_the_supernet(seed, supernet, images, policy_of, state_of):
    policy = policy_of(seed)
    before = state_of(supernet), read_policy(supernet)
    selected = select_policy(supernet, policy)
    assert (state_of(supernet), read_policy(supernet)) == before
    assert read_policy(selected) == policy
    with torch.no_grad():
        expected = set_policy_(supernet, policy)(images)
        assert torch.equal(selected(images), expected)
        other = set_policy_(supernet, policy_of(seed + 100))(images)
    assert not torch.equal(other, expected)


def test_selected_policy_has_one_step_and_one_norm_per_layer(supernet, network, policy_of):
    with torch.no_grad():
        supernet.expand.weight_quantizer.step.fill_(-1)  # used as 1e-5
    selected = select_policy(supernet, policy_of(0))
    assert all(
        quantizer.step.shape == (1,)
        for _, layer in quantized_layers(selected)
        for quantizer in (layer.weight_quantizer, layer.activation_quantizer)
    )
    assert selected.expand.weight_quantizer.step.item() == pytest.approx(1e-5)
    assert type(selected.final_norm) is type(network.final_norm)
    float_names = {name for name in selected.state_dict() if "quantizer" not in name}
    assert float_names == set(network.state_dict())


def test_selecting_needs_bits_for_the_ends_too(supernet, policy_of):
    with pytest.raises(PolicyError, match=r"^the policy gives no bits for layer 'stem'$"):
        select_policy(supernet, changed(policy_of(0), stem=None))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("training", [True, False])
def test_no_tensor_has_more_levels_than_its_bits_allow(seed, training, network, images, policy_of, monkeypatch):
    rng = random.Random(seed)
    mixed = {name: LayerBits(rng.randint(2, 8), rng.randint(2, 8)) for name in LAYERS}
    model = to_quantized(network, Policy("Bottleneck", mixed), example_input=images).train(training)
    used: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    running: list[str] = []
    for name, layer in quantized_layers(model):
        layer.register_forward_pre_hook(lambda _, args, name=name: running.append(name))

    def watched(function):
        def call(x, weight, *rest, **options):
            used[running[-1]] = x.detach(), weight.detach()
            return function(x, weight, *rest, **options)

        return call

    monkeypatch.setattr(nn.functional, "conv2d", watched(nn.functional.conv2d))
    monkeypatch.setattr(nn.functional, "linear", watched(nn.functional.linear))
    model(torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(seed)))
    assert list(used) == LAYERS
    for name, (x, weight) in used.items():
        assert 1 < len(weight.unique()) <= 2 ** mixed[name].weight, name
        assert len(x.unique()) <= 2 ** mixed[name].activation, name
        layer = model.get_submodule(name)
        for values, quantizer in ((x, layer.activation_quantizer), (weight, layer.weight_quantizer)):
            integers = (values / quantizer.step).round()
            torch.testing.assert_close(integers * quantizer.step, values)
            assert quantizer.signed or integers.min() >= 0
    assert len(used["stem"][0].unique()) > 2


def test_architecture_is_timms_name_or_else_the_class(network, supernet):
    with torch.device("meta"):
        resnet = timm.create_model("resnet18.a1_in1k")
    assert architecture_of(resnet) == "resnet18"
    assert architecture_of(network) == architecture_of(supernet) == "Bottleneck"


def test_layer_registered_under_two_names_is_quantized_under_both(images):
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3)
            self.block = nn.Conv2d(4, 4, 1)
            self.alias = self.block
            self.classifier = nn.Linear(4, 2)

        def forward(self, x):
            return self.classifier(self.alias(self.stem(x).relu()).relu().mean((2, 3)))

    torch.manual_seed(0)
    policy = Policy("Shared", {"stem": FIXED, "block": LayerBits(2, 2), "classifier": FIXED})
    quantized = to_quantized(Shared(), policy, example_input=images)
    assert quantized.alias is quantized.block


def test_network_that_is_one_layer_is_quantized_itself(images):
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3).eval()
    quantized = to_quantized(layer, Policy("Conv2d", {"": FIXED}), example_input=images)
    assert read_policy(quantized).layers == {"": FIXED}
    torch.testing.assert_close(quantized(images), layer(images), atol=0.2, rtol=0)


def test_supernet_can_be_copied_saved_and_restored(supernet, network, images, policy_of):
    twin = to_supernet(network, CANDIDATES, example_input=images * 2).eval()
    twin.load_state_dict(copy.deepcopy(supernet.state_dict()))
    with torch.no_grad():
        for seed in range(2):
            answers = [set_policy_(model, policy_of(seed))(images) for model in (supernet, twin)]
            assert torch.equal(*answers)


def test_a_selected_policy_shares_no_tensor_with_its_supernet_and_leaves_it_as_it_was(supernet, policy_of, state_of):
    before = state_of(supernet)
    selected = select_policy(supernet, policy_of(3))
    ours, theirs = ({id(tensor) for tensor in (*m.parameters(), *m.buffers())} for m in (selected, supernet))
    assert not ours & theirs
    with torch.no_grad():
        for tensor in (*selected.parameters(), *selected.buffers()):
            tensor.zero_()
    assert state_of(supernet) == before
