"""Tests of load(): which weights come, what `.limpq` and the warning say, and what is refused."""

import copy
import json
import pickle
import re
import warnings
from dataclasses import replace

import pytest
import timm
import torch

from limpq_hub import LayerBits, Policy, load, search
from limpq_hub.errors import (
    ArtifactError,
    ArtifactVersionError,
    BudgetError,
    InfeasibleBudgetError,
    LimpqError,
    PolicyError,
    UnknownModelError,
)
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.plan.policy_costs import total_bitops
from limpq_hub.plan.quantities import format_bitops
from limpq_hub.quant.batch_norm_calibration import Recalibration
from limpq_hub.quant.convert import read_policy, select_policy, to_quantized
from limpq_hub.quant.frozen_layers import thaw_
from limpq_hub.quant.profile import profile_module
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.quant.switchable_batch_norm import SwitchableBatchNorm2d
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.checkpoint import save_checkpoint
from limpq_hub.zoo.entry_folder import save_float_network
from limpq_hub.zoo.loading import NotFineTunedWarning, NotRecalibratedWarning


@pytest.fixture
def load_joint(tiny):
    """A function that loads and returns the network with the text of its warning."""

    def loaded(name: str | None = None, **arguments):
        with pytest.warns(NotFineTunedWarning) as caught:
            model = load(name or tiny.name, **arguments)
        assert len(caught) == 1
        assert caught[0].filename == __file__, "the warning points into the package"
        return model, str(caught[0].message)

    return loaded


def logits(model, images: torch.Tensor) -> torch.Tensor:
    """What a network computes as it was trained: frozen, values on the edge between two integers may fall otherwise."""
    with torch.inference_mode():
        return thaw_(copy.deepcopy(model))(images)


@pytest.mark.parametrize("weights", ["auto", "finetuned"])
@pytest.mark.parametrize("name", ["small", "large"])
def test_a_policy_that_was_fine_tuned_comes_with_its_own_weights_and_no_warning(tiny, name, weights):
    model = load(tiny.name, policy=tiny.policies[name], weights=weights)
    assert torch.equal(logits(model, tiny.images), logits(tiny.checkpoints[name], tiny.images))
    facts = model.limpq
    assert (facts.weights, facts.source, facts.revision) == ("finetuned", "local", None)
    assert facts.top1 == {"small": 61.5, "large": 72.25}[name]
    assert facts.nearest.name == name
    assert facts.plan.policy == tiny.policies[name]


@pytest.mark.parametrize("arithmetic", ["simulated", "integer"])
def test_a_network_is_loaded_in_inference_mode_too(tiny, arithmetic):
    with torch.inference_mode():
        model = load(tiny.name, policy=tiny.policies["small"], arithmetic=arithmetic)
        inside = model(tiny.images)
    outside = load(tiny.name, policy=tiny.policies["small"], arithmetic=arithmetic)
    with torch.no_grad():
        torch.testing.assert_close(inside, outside(tiny.images))


def test_integers_give_the_same_logits_and_tell_what_is_simulated(tiny):
    simulated, model = load(tiny.name, bitops="w3a3"), load(tiny.name, bitops="w3a3", arithmetic="integer")
    assert (simulated.limpq.arithmetic, model.limpq.arithmetic) == ("simulated", "integer")
    assert simulated.limpq.in_float == {}
    assert set(model.limpq.in_float) < set(tiny.costs)
    assert model.limpq.in_float["fc"] == "it is no plain 2-d convolution"
    difference = (logits(model, tiny.images) - logits(simulated, tiny.images)).abs()
    assert difference.amax(1).median() < 1e-4
    assert torch.equal(logits(copy.deepcopy(model), tiny.images), logits(model, tiny.images))


def test_weights_that_are_loaded_into_a_network_of_integers_are_those_it_computes_with(tiny, load_joint):
    model = load(tiny.name, policy=tiny.policies["small"], arithmetic="integer")
    joint, _ = load_joint(policy=tiny.policies["small"], weights="joint")
    with torch.inference_mode():
        before = model(tiny.images)
        model.load_state_dict(joint.state_dict())
        torch.testing.assert_close(model(tiny.images), copy.deepcopy(model)(tiny.images))
        # A value halfway between two integers may be rounded to the other one, in a few of the images.
        difference = (model(tiny.images) - joint(tiny.images)).abs().amax(1).median()
    assert difference < 1e-3 < (before - joint(tiny.images)).abs().amax(1).median()


def test_an_arithmetic_that_is_not_known_and_integers_on_a_gpu_are_refused(tiny):
    with pytest.raises(PolicyError, match='arithmetic=\'int8\' is not known: use "simulated" or "integer"'):
        load(tiny.name, bitops="w3a3", arithmetic="int8")
    with pytest.raises(PolicyError, match='arithmetic="integer" runs on a CPU, not on cuda: leave out device= or'):
        load(tiny.name, bitops="w3a3", arithmetic="integer", device="cuda")


def test_a_budget_finds_the_policy_that_was_fine_tuned_for_it(tiny):
    model = load(tiny.name, bitops="w3a3")
    assert (model.limpq.weights, model.limpq.top1) == ("finetuned", 61.5)
    assert model.limpq.plan.optimal
    assert model.limpq.plan.policy == search(tiny.indicators, bitops="w3a3").policy


def test_joint_weights_insist_even_where_a_fine_tuned_checkpoint_is(tiny, load_joint):
    model, message = load_joint(policy=tiny.policies["small"], weights="joint")
    assert (model.limpq.weights, model.limpq.top1) == ("joint", None)
    assert "was not fine-tuned (joint weights, accuracy not measured)" in message


def test_another_policy_gets_the_joint_weights_with_the_figure_measured_for_exactly_it(tiny, load_joint):
    model, message = load_joint(policy=tiny.joint)
    assert (model.limpq.weights, model.limpq.top1, model.limpq.nearest) == ("joint", 33.5, None)
    bitops = format_bitops(model.limpq.plan.bitops)
    measured = "measured 33.50 % +/- 2.36 top-1 on 400 validation images"
    assert f"at {bitops} BitOps was not fine-tuned (joint weights, {measured}): no fine-tuned" in message
    assert "no fine-tuned policy lies below it; fine-tune it with: accelerate" in message


def test_a_table_of_the_candidates_alone_is_enough_to_load(tiny, load_joint):
    table = {name: {(4, 4): 1} for name, cost in tiny.costs.items() if cost.fixed is None}
    model, _ = load_joint(latency=(table, len(table)), candidates=[4], weights="joint")
    assert model.limpq.plan.mean_bits() == (4, 4)
    assert model.limpq.nearest.name == "large"  # the other one has bits that the table lacks


def test_joint_weights_compute_what_the_supernet_computes_at_the_policy(tiny, load_joint):
    model, _ = load_joint(policy=tiny.joint)
    expected = select_policy(tiny.supernet, tiny.joint).eval()
    with torch.no_grad():
        for parameter in expected.parameters():
            parameter.copy_(parameter.half().float() if parameter.ndim > 1 else parameter)
    assert torch.equal(logits(model, tiny.images), logits(expected, tiny.images))


def test_the_warning_names_the_nearest_policy_and_the_command_that_fine_tunes(tiny, load_joint):
    model, message = load_joint(bitops="w4a3")
    small = sum(
        tiny.costs[name].macs * bits.weight * bits.activation for name, bits in tiny.policies["small"].layers.items()
    )
    assert model.limpq.nearest.name == "small"
    measured = "measured 61.50 % +/- 2.43 top-1 on 400 validation images"
    assert f"the fine-tuned policy next below is small ({format_bitops(small)} BitOps, {measured})" in message
    advice = f"accelerate launch -m limpq_hub.train.finetune --model {tiny.name} --bitops w4a3 --data FOLDER --output "
    assert advice in message


@pytest.mark.parametrize("there", [True, False])
def test_the_warning_says_what_fine_tuning_needs_where_that_is_not_installed(load_joint, monkeypatch, there):
    monkeypatch.setattr("limpq_hub.zoo.finetuning_advice.find_spec", lambda name: there or None)
    _, message = load_joint(bitops="w4a3")
    brings = '(pip install "limpq-hub[train]" brings what that needs)'
    assert ("fine-tune it with: accelerate" in message, f"fine-tune it {brings} with: accelerate" in message) == (
        there,
        not there,
    )


def test_the_nearest_policy_meets_every_limit_that_was_given(tiny, load_joint):
    sizes = {
        name: sum(tiny.costs[layer].weights * bits.weight for layer, bits in policy.layers.items()) // 8
        for name, policy in tiny.policies.items()
    }
    assert sizes["small"] < sizes["large"]
    model, _ = load_joint(size=sizes["large"] - 1)
    assert model.limpq.nearest.name == "small"
    model, _ = load_joint(size=sizes["small"] - 1)
    assert model.limpq.nearest is None


def test_the_nearest_policy_meets_the_limit_as_it_is_counted(tiny, load_joint):
    small = tiny.policies["small"]
    as_published, exact = (total_bitops(tiny.costs, small, counting) for counting in ("limpq", "exact"))
    assert as_published > exact
    model, _ = load_joint(bitops=as_published - 1, counting="limpq")
    assert model.limpq.nearest is None
    model, _ = load_joint(bitops=as_published, counting="limpq")
    assert model.limpq.nearest.name == "small"


def test_the_command_in_the_warning_asks_for_every_budget_or_for_the_policy_itself(tiny, load_joint, tmp_path):
    _, message = load_joint(bitops="w4a3", activation_memory="64kB", compression=8)
    assert "--bitops w4a3 --activation-memory 64kB --compression 8 --data FOLDER" in message
    times = {name: {(w, a): w + a for w in (2, 3, 4) for a in (2, 3, 4)} for name in tiny.indicators.weight_steps}
    path = tmp_path / "my times.csv"
    path.write_text(
        "layer,weight_bits,activation_bits,time\n"
        + "".join(f"{name},{w},{a},{time}\n" for name, at_bits in times.items() for (w, a), time in at_bits.items())
    )
    _, message = load_joint(bitops="w4a3", latency=(path, 1000))
    assert f"--bitops w4a3 --latency '{path}' 1000 --data FOLDER" in message
    for arguments in (
        {"policy": tiny.joint},
        {"bitops": "w4a3", "latency": (times, 1000)},
        {"bitops": "w4a3", "alpha": 0.5},
        {"bitops": "w4a3", "pin": {"*": (4, 3)}},
    ):
        _, message = load_joint(**arguments)
        assert "--policy policy.json --data FOLDER" in message
        assert message.endswith("; write model.limpq.plan.policy.to_json() to policy.json first")
        assert "--bitops" not in message


def test_the_command_in_the_warning_names_the_file_that_the_policy_was_given_in(tiny, load_joint, tmp_path):
    path = tmp_path / "p 45.json"
    path.write_text(json.dumps(tiny.joint.to_json()))
    for policy in (path, str(path)):
        _, message = load_joint(policy=policy)
        assert f"--policy '{path}' --data FOLDER" in message
        assert "policy.json" not in message


def test_finetuned_weights_that_do_not_exist_are_refused_with_what_there_is(tiny):
    message = (
        r'weights="finetuned": local-dir:.* has no checkpoint fine-tuned for exactly this policy of [\d.]+M BitOps '
    )
    with pytest.raises(
        UnknownModelError, match=message + r'\(it has: small, large\); use weights="auto", or '
    ) as caught:
        load(tiny.name, bitops="w4a3", weights="finetuned")
    assert f"limpq_hub.train.finetune --model {tiny.name} --bitops w4a3 --data FOLDER" in str(caught.value)


@pytest.mark.parametrize("weights", ["float", "", None, "AUTO", 3])
def test_other_weights_are_refused(tiny, weights):
    message = f'weights={weights!r} is not known: use "auto", "finetuned" or "joint"'
    with pytest.raises(UnknownModelError, match=re.escape(message)):
        load(tiny.name, bitops="w3a3", weights=weights)


def test_without_a_budget_the_error_lists_what_can_be_asked_and_it_works(tiny):
    message = r'needs a budget or a policy: give bitops= between "([\d.]+M)" and "([\d.]+M)", or size=, compression=, '
    message += r"activation_memory=, latency=.* or policy=; fine-tuned policies: small, large$"
    with pytest.raises(BudgetError, match=message) as caught:
        load(tiny.name)
    lowest, highest = re.search(message, str(caught.value)).groups()
    assert search(tiny.name, bitops=lowest).policy == tiny.joint
    assert search(tiny.name, bitops=highest).policy == tiny.policies["large"]
    with pytest.raises(InfeasibleBudgetError, match="cannot be met"):
        load(tiny.name, bitops=f"{float(lowest[:-1]) - 0.01:.2f}M")


def test_a_misspelt_budget_is_named(tiny):
    for budget in ({"bitops": "w3a3"}, {}):
        with pytest.raises(TypeError, match="'bitop'"):
            load(tiny.name, bitop="3G", **budget)


def test_every_form_of_a_policy_loads_the_same_network(tiny, tmp_path):
    policy = tiny.policies["small"]
    write_json(tmp_path / "policy.json", policy.to_json())
    plan = search(tiny.name, bitops="w3a3")
    write_json(tmp_path / "plan.json", plan.to_json())
    forms = [policy, plan, policy.to_json(), plan.to_json(), tmp_path / "policy.json", str(tmp_path / "plan.json")]
    expected = logits(tiny.checkpoints["small"], tiny.images)
    for form in forms:
        model = load(tiny.name, policy=form)
        assert model.limpq.plan.policy == policy
        assert torch.equal(logits(model, tiny.images), expected)


@pytest.mark.parametrize(
    "arguments", [{"bitops": "3G"}, {"size": "1MB", "alpha": 2.0}, {"candidates": [2, 3]}], ids=str
)
def test_a_policy_and_a_budget_together_are_refused(tiny, arguments):
    with pytest.raises(BudgetError, match=f"^give policy= or {'=, '.join(arguments)}=, not both$"):
        load(tiny.name, policy=tiny.policies["small"], **arguments)


@pytest.mark.parametrize("policy", [3, ["fc"], b"policy"])
def test_a_policy_of_another_kind_is_refused(tiny, policy):
    message = f"policy={policy!r}: give a Policy, a Plan, or the content or path of a policy.json"
    with pytest.raises(PolicyError, match=re.escape(message)):
        load(tiny.name, policy=policy)


def test_the_folder_of_a_policy_is_told_with_its_file(tiny):
    folder = tiny.folder / "policies/large"
    with pytest.raises(PolicyError, match=r"' is a folder; give its file, '.*") as caught:
        load(tiny.name, policy=folder)
    assert str(folder)[:60] in str(caught.value)


def test_a_policy_file_that_is_missing_or_malformed_is_named(tiny, tmp_path):
    with pytest.raises(PolicyError, match=r"there is no file '.*missing\.json'; give the path of a policy\.json"):
        load(tiny.name, policy=tmp_path / "missing.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(LimpqError, match=r"broken\.json is not JSON: "):
        load(tiny.name, policy=tmp_path / "broken.json")
    with pytest.raises(ArtifactVersionError, match="^not a policy of format 1: found format 2; upgrade limpq-hub$"):
        load(tiny.name, policy={"format": 2})
    (tmp_path / "list.json").write_text("[1, 2]")
    with pytest.raises(
        PolicyError, match=r"list\.json: policy=\[1, 2\]: give a Policy, a Plan, or the content or path"
    ):
        load(tiny.name, policy=tmp_path / "list.json")
    write_json(tmp_path / "later.json", {**tiny.policies["small"].to_json(), "format": 2})
    with pytest.raises(ArtifactVersionError, match=r"later\.json: not a policy of format 1: found format 2; upgrade"):
        load(tiny.name, policy=tmp_path / "later.json")
    bits = {"fc": {"weight": 99, "activation": 3}}
    write_json(tmp_path / "bits.json", {**tiny.policies["small"].to_json(), "layers": bits})
    with pytest.raises(PolicyError, match=r"bits\.json: layer 'fc': weight bits of 99 cannot be"):
        load(tiny.name, policy=str(tmp_path / "bits.json"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "resnet50"}, "the policy is for 'resnet50', local-dir:"),
        ({"layer": ("layer1.0.conv1", None)}, "the policy is for other layers: it lacks layer1.0.conv1; give bits for"),
        (
            {"layer": ("extra", LayerBits(2, 2))},
            "the policy is for other layers: it has foreign extra; give bits for ex",
        ),
        (
            {"layer": ("layer1.0.conv1", LayerBits(5, 4))},
            "layer 'layer1.0.conv1' learned no weight step at 5 bits; choose",
        ),
        ({"layer": ("layer1.0.conv1", LayerBits(4, 8))}, "layer 'layer1.0.conv1' learned no activation step at 8 bits"),
        (
            {"layer": ("fc", LayerBits(4, 4))},
            "layer 'fc' is fixed at 8/8 bits, the policy has",
        ),
    ],
)
def test_a_policy_that_does_not_fit_the_entry_is_refused(tiny, change, message):
    layers = dict(tiny.joint.layers)
    if "layer" in change:
        name, bits = change["layer"]
        layers[name] = bits
    policy = Policy(change.get("model", "test_resnet"), {name: bits for name, bits in layers.items() if bits})
    with pytest.raises(PolicyError, match=re.escape(message)):
        load(tiny.name, policy=policy)


@pytest.mark.parametrize("weights", ["finetuned", "joint"])
def test_the_network_is_in_eval_mode_frozen_and_plain(tiny, weights):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotFineTunedWarning)
        model = load(tiny.name, policy=tiny.policies["small"], weights=weights)
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(isinstance(module, SwitchableBatchNorm2d) for module in model.modules())
    assert {name for name, _ in quantized_layers(model)} == set(tiny.costs)
    assert read_policy(model).layers == tiny.policies["small"].layers
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert model.num_classes == 10


def test_gradients_of_the_image_flow_through_the_frozen_network(tiny):
    model = load(tiny.name, bitops="w3a3")
    images = tiny.images.clone().requires_grad_()
    model(images).square().sum().backward()
    assert images.grad.abs().sum() > 0


def test_what_the_network_says_of_itself_cannot_be_changed(tiny):
    model = load(tiny.name, bitops="w3a3")
    with pytest.raises(AttributeError, match="cannot assign to field 'top1'"):
        model.limpq.top1 = 100.0
    spec = model.limpq.network
    assert (spec.architecture, spec.num_classes, spec.input_shape) == ("test_resnet", 10, (3, 32, 32))
    assert [found["name"] for found in model.limpq.classes] == [f"noise {index}" for index in range(10)]


def test_two_loads_share_nothing(tiny):
    first, second = (load(tiny.name, bitops="w3a3") for _ in range(2))
    expected = logits(second, tiny.images)
    with torch.no_grad():
        for value in first.state_dict().values():
            value.zero_()
    assert torch.equal(logits(second, tiny.images), expected)


@pytest.mark.parametrize("weights", ["finetuned", "joint"])
def test_calibration_changes_the_batch_norm_statistics_only_and_clears_the_figure(tiny, weights):
    policy = tiny.policies["small"] if weights == "finetuned" else tiny.joint
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotFineTunedWarning)
        plain = load(tiny.name, policy=policy, weights=weights)
        calibrated = load(tiny.name, policy=policy, weights=weights, calibrate=iter([tiny.images[:4], tiny.images[4:]]))
    assert plain.limpq.top1 in (61.5, 33.5)
    assert calibrated.limpq.top1 is None
    assert calibrated.limpq.weights == weights
    before, after = plain.state_dict(), calibrated.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    statistics = {name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert changed == statistics
    # The first statistic, by hand: the mean over both batches of the first convolution's output.
    with torch.no_grad():
        outputs = [thaw_(plain).conv1[0](batch).mean((0, 2, 3)) for batch in (tiny.images[:4], tiny.images[4:])]
    torch.testing.assert_close(after["conv1.1.running_mean"], torch.stack(outputs).mean(0))
    assert not any(module.training for module in calibrated.modules())


def test_calibration_without_images_changes_nothing(tiny):
    model = load(tiny.name, bitops="w3a3", calibrate=[])
    assert model.limpq.top1 == 61.5
    assert model.limpq.recalibration == Recalibration(0, None, None, accepted=False)
    assert torch.equal(logits(model, tiny.images), logits(tiny.checkpoints["small"], tiny.images))


def test_without_a_float_network_at_hand_any_images_recalibrate(tiny, load_joint):
    model, _ = load_joint(policy=tiny.joint, calibrate=[tiny.images])
    assert model.limpq.recalibration == Recalibration(8, None, None, accepted=True)
    model, _ = load_joint(policy=tiny.joint)
    assert model.limpq.recalibration is None


@pytest.fixture
def with_float(tiny, entry_copy, reseal) -> str:
    """The name of a copy of the entry that holds a float network: that of the large checkpoint."""
    checkpoint = load(tiny.name, policy=tiny.policies["large"])
    network, state = checkpoint.limpq.network.build(), checkpoint.state_dict()
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    save_float_network(entry_copy, network)
    reseal(entry_copy)
    return f"local-dir:{entry_copy}"


@pytest.fixture
def many() -> list[torch.Tensor]:
    """Images in batches, 128 in all, brighter than those of the statistics in the entry."""
    return list((torch.randn(128, 3, 32, 32, generator=torch.Generator().manual_seed(3)) + 2).split(16))


def test_images_recalibrate_where_they_bring_the_network_closer_to_its_float_one(tiny, with_float, many, monkeypatch):
    unguarded = load(tiny.name, policy=tiny.policies["large"], calibrate=many)
    # As a float network serves what recalibration leads to: nothing else is certain to come closer at few bits.
    monkeypatch.setattr("limpq_hub.zoo.loading.load_float_network", lambda _: unguarded)
    model = load(with_float, policy=tiny.policies["large"], calibrate=iter(many))
    result = model.limpq.recalibration
    assert (result.images, result.accepted, model.limpq.top1) == (128, True, None)
    assert result.kl_after < result.kl_before
    assert torch.equal(logits(model, tiny.images), logits(unguarded, tiny.images))


def test_images_that_would_take_the_network_further_from_its_float_one_change_nothing(tiny, with_float, many):
    message = (
        r"^calibrate: \S+ keeps its BatchNorm statistics: with statistics of half of the 128 images, KL to the float "
        r"network on the other half is (\d\.\d{4}) instead of (\d\.\d{4})$"
    )
    with pytest.warns(NotRecalibratedWarning, match=message) as caught:
        model = load(with_float, policy=tiny.policies["large"], calibrate=many)
    assert caught[0].filename == __file__, "the warning points into the package"
    result = model.limpq.recalibration
    assert (result.images, result.accepted, model.limpq.top1) == (128, False, 72.25)
    assert result.kl_after > result.kl_before
    assert re.match(message, str(caught[0].message)).groups() == (f"{result.kl_after:.4f}", f"{result.kl_before:.4f}")
    assert torch.equal(logits(model, tiny.images), logits(tiny.checkpoints["large"], tiny.images))


def test_images_too_few_to_compare_change_nothing_where_a_float_network_is(tiny, with_float):
    message = r"keeps its BatchNorm statistics: 8 images are too few to tell whether that helps; give 64 or more$"
    with pytest.warns(NotRecalibratedWarning, match=message):
        model = load(with_float, policy=tiny.policies["large"], calibrate=[tiny.images])
    assert model.limpq.recalibration == Recalibration(8, None, None, accepted=False)
    assert torch.equal(logits(model, tiny.images), logits(tiny.checkpoints["large"], tiny.images))


def test_random_weights_are_compared_with_nothing(tiny, with_float, load_joint):
    model, _ = load_joint(with_float, policy=tiny.policies["large"], calibrate=[tiny.images], pretrained=False)
    assert model.limpq.recalibration == Recalibration(8, None, None, accepted=True)


def test_without_pretrained_weights_the_network_is_random_and_says_so(tiny, load_joint):
    model, message = load_joint(policy=tiny.policies["small"], pretrained=False)
    assert (model.limpq.weights, model.limpq.top1) == ("random", None)
    assert "was not fine-tuned (random weights, accuracy not measured): " in message
    assert not torch.equal(logits(model, tiny.images), logits(tiny.checkpoints["small"], tiny.images))
    assert logits(model, tiny.images).isfinite().all()
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert read_policy(model).layers == tiny.policies["small"].layers


def test_random_weights_need_no_weight_files(tiny, entry_copy, load_joint):
    for file in entry_copy.rglob("*.safetensors"):
        file.unlink()
    model, _ = load_joint(f"local-dir:{entry_copy}", bitops="w3a3", pretrained=False)
    assert model.limpq.weights == "random"


def test_a_published_checkpoint_of_another_network_is_refused(tiny, entry_copy, reseal):
    overlay = {"input_size": (3, 32, 32), "crop_pct": 1.0, "interpolation": "bilinear"}
    torch.manual_seed(0)
    other = timm.create_model("test_resnet", num_classes=7, pretrained_cfg_overlay=overlay).eval()
    quantized = to_quantized(other, tiny.policies["small"], example_input=tiny.images)
    save_checkpoint(
        entry_copy / "policies/small", quantized, profile_module(other, tiny.images), metrics={"top1": 99.0}
    )
    reseal(entry_copy / "policies/small")
    with pytest.raises(ArtifactError, match="policies/small"):
        load(f"local-dir:{entry_copy}", policy=tiny.policies["small"])


def test_a_published_checkpoint_that_prepares_pictures_otherwise_is_refused(tiny, entry_copy, reseal):
    reseal(entry_copy / "policies/small", mean=[0.0, 0.0, 0.0])
    with pytest.raises(ArtifactError, match="policies/small"):
        load(f"local-dir:{entry_copy}", policy=tiny.policies["small"])


def test_an_entry_without_policies_and_figures_loads_joint_weights(tiny, entry_copy, reseal, load_joint):
    for file in ("metrics.json", *(f"policies/{name}/config.json" for name in ("small", "large"))):
        (entry_copy / file).unlink()
    reseal(entry_copy)
    model, message = load_joint(f"local-dir:{entry_copy}", bitops="w3a3")
    assert (model.limpq.weights, model.limpq.top1, model.limpq.nearest) == ("joint", None, None)
    assert "no fine-tuned policy lies below it" in message
    with pytest.raises(BudgetError, match=r"fine-tuned policies: none$"):
        load(f"local-dir:{entry_copy}")
    with pytest.raises(UnknownModelError, match=r"\(it has: none\)"):
        load(f"local-dir:{entry_copy}", bitops="w3a3", weights="finetuned")


def test_the_bundled_resnet18_is_fine_tuned_at_three_giga_bitops():
    model = load("resnet18", bitops="3G")
    facts = model.limpq
    assert (facts.weights, facts.source, facts.revision) == ("finetuned", "bundled", None)
    assert facts.nearest.name == "3G"
    assert facts.top1 == facts.nearest.top1
    assert facts.plan.bitops == facts.nearest.bitops <= 3_000_000_000
    assert len(facts.classes) == model.num_classes == 200
    images = torch.randn(2, *facts.network.input_shape, generator=torch.Generator().manual_seed(0))
    answers = logits(model, images)
    assert answers.shape == (2, 200)
    assert answers.isfinite().all()


def test_the_bundled_resnet18_below_its_fine_tuned_policy_is_joint(load_joint):
    model, message = load_joint("resnet18", bitops="2.345G")
    assert model.limpq.weights == "joint"
    assert model.limpq.plan.bitops <= 2_345_000_000
    assert "resnet18.tiny_imagenet at " in message
    assert "--model resnet18.tiny_imagenet --bitops 2.345G --data FOLDER" in message


def test_a_loaded_network_and_its_plan_can_be_copied_and_pickled(tiny):
    model = load(tiny.name, policy=tiny.policies["small"])
    twin = copy.deepcopy(model)
    assert twin.limpq.plan == model.limpq.plan
    assert torch.equal(twin(tiny.images), model(tiny.images))
    for value in (model.limpq.plan, tiny.indicators, tiny.policies["small"]):
        assert pickle.loads(pickle.dumps(value)) == value


def test_a_published_policy_is_served_whatever_the_counting(tiny):
    model = load(tiny.name, bitops="w4a4", counting="limpq")
    assert model.limpq.weights == "finetuned"


def test_labels_among_the_calibration_images_are_refused(tiny):
    with pytest.raises(PolicyError, match="give batches of images alone"):
        load(tiny.name, policy=tiny.joint, calibrate=[(tiny.images, torch.zeros(8))])


def test_a_policy_for_another_input_size_is_refused(tiny):
    policy = Policy("test_resnet", tiny.joint.layers, 224)
    with pytest.raises(PolicyError, match="the policy is for 224 pixels, .* takes 32"):
        load(tiny.name, policy=policy)


# The expected top-1


@pytest.fixture
def between(tiny, with_front):
    """An entry measured 1,000 BitOps below the best policy within "w4a3" and 3,000 above: 46.2 and 50.2 % top-1."""
    bitops = search(tiny.name, bitops="w4a3").bitops
    return with_front((bitops + 3000, 50.2), (bitops - 1000, 46.2), (bitops, 1.0, 64))


def test_between_measured_budgets_the_network_and_the_warning_say_what_to_expect(between, load_joint):
    model, message = load_joint(between, bitops="w4a3")
    assert (model.limpq.top1, model.limpq.expected_top1) == (None, pytest.approx(47.2))
    assert str(model.limpq).endswith(" of weights, joint weights, about 47.2 % top-1 expected")
    assert " was not fine-tuned (joint weights, about 47.2 % top-1 expected): the fine-tuned policy next " in message


@pytest.mark.parametrize(
    "arguments",
    [
        {"alpha": 3.0},
        {"compression": 8.5},
        {"candidates": [2, 3, 4]},
        {"pin": {"conv1.3": (4, 4)}},
        {"counting": "limpq"},
        {"pretrained": False},
    ],
    ids=str,
)
def test_nothing_is_expected_of_another_search_or_of_random_weights(between, load_joint, arguments):
    model, message = load_joint(between, bitops="w4a3", **arguments)
    assert (model.limpq.top1, model.limpq.expected_top1) == (None, None)
    assert str(model.limpq).endswith(f", {model.limpq.weights} weights, accuracy not measured")
    assert f"({model.limpq.weights} weights, accuracy not measured)" in message


def test_nothing_is_expected_of_a_given_policy_or_of_a_budget_without_bitops(tiny, between, load_joint):
    policy = search(tiny.name, bitops="w4a3").policy
    for arguments in ({"policy": policy}, {"compression": 9}):
        model, message = load_joint(between, **arguments)
        assert (model.limpq.top1, model.limpq.expected_top1) == (None, None)
        assert "(joint weights, accuracy not measured)" in message


def test_constraints_of_none_are_no_constraints(between, load_joint):
    model, _ = load_joint(between, bitops="w4a3", alpha=None, size=None)
    assert model.limpq.expected_top1 == pytest.approx(47.2)


def test_nothing_is_expected_outside_the_measured_budgets(tiny, with_front, load_joint):
    bitops = search(tiny.name, bitops="w4a3").bitops
    model, message = load_joint(with_front((bitops + 1, 40.0), (bitops + 9, 50.0)), bitops="w4a3")
    assert (model.limpq.top1, model.limpq.expected_top1) == (None, None)
    assert "(joint weights, accuracy not measured)" in message


def test_a_figure_measured_for_exactly_the_policy_is_said_instead(tiny, with_front, load_joint):
    plan = search(tiny.name, bitops="w4a3")
    name = with_front((1, 10.0), (plan.bitops, 44.25, 0, plan.policy.digest()), (plan.bitops + 9, 50.0))
    model, message = load_joint(name, bitops="w4a3")
    assert (model.limpq.top1, model.limpq.expected_top1) == (44.25, None)
    assert str(model.limpq).endswith(", joint weights, measured 44.25 % top-1")
    assert "(joint weights, measured 44.25 % top-1): " in message


def test_nothing_is_expected_of_recalibrated_weights(tiny, between, load_joint):
    model, message = load_joint(between, bitops="w4a3", calibrate=[tiny.images])
    assert (model.limpq.top1, model.limpq.expected_top1) == (None, None)
    assert "(joint weights, accuracy not measured)" in message
    model, _ = load_joint(between, bitops="w4a3", calibrate=[])
    assert model.limpq.expected_top1 == pytest.approx(47.2)


def test_nothing_is_expected_of_fine_tuned_weights_but_of_the_joint_ones_at_their_policy(tiny, with_front, load_joint):
    bitops = search(tiny.name, bitops="w3a3").bitops
    name = with_front((bitops - 10, 40.0), (bitops + 10, 50.0))
    facts = load(name, bitops="w3a3").limpq
    assert (facts.weights, facts.top1, facts.expected_top1) == ("finetuned", 61.5, None)
    assert str(facts).endswith(", finetuned weights, measured 61.50 % +/- 2.43 top-1 on 400 validation images")
    model, message = load_joint(name, bitops="w3a3", weights="joint")
    assert (model.limpq.top1, model.limpq.expected_top1) == (None, pytest.approx(45.0))
    assert "(joint weights, about 45.0 % top-1 expected)" in message
    assert ": fine-tuned for this policy is small (" in message
    assert "measured 61.50 % +/- 2.43 top-1 on 400 validation images)" in message


@pytest.fixture
def twice_published(tiny, entry_copy, reseal):
    """An entry of an earlier version: the policy of "small" as "again" as well, of other weights and another top-1."""
    twin, again = copy.deepcopy(tiny.checkpoints["small"]), entry_copy / "policies/again"
    with torch.no_grad():
        twin.fc.bias += torch.arange(len(twin.fc.bias))

    def name(top1: float | None) -> str:
        save_checkpoint(again, twin, tiny.costs, metrics=None if top1 is None else {"top1": top1})
        reseal(entry_copy)
        return f"local-dir:{entry_copy}"

    return name, twin


@pytest.mark.parametrize("top1", [None, 50.0, 70.0])
def test_of_two_checkpoints_of_one_policy_the_weights_are_those_that_the_figure_is_of(tiny, twice_published, top1):
    name, twin = twice_published
    model = load(name(top1), policy=tiny.policies["small"])
    served = twin if top1 == 70.0 else tiny.checkpoints["small"]
    assert torch.equal(logits(model, tiny.images), logits(served, tiny.images))
    measured = find_entry(name(top1)).measured_top1(tiny.policies["small"])
    assert measured == (model.limpq.top1, "fine-tuned") == (max(61.5, top1 or 0), "fine-tuned")


def test_a_plan_that_leaves_its_budget_unspent_is_not_said_to_lie_above_what_fits_it(tiny, load_joint):
    budget = search(tiny.name, bitops="w3a3").bitops
    model, message = load_joint(bitops=budget, candidates=[2])
    assert model.limpq.plan.bitops < model.limpq.nearest.bitops <= budget
    assert "): the fine-tuned policy of the most BitOps within the same limits is small (" in message
    size = search(tiny.name, bitops="w3a3").size_bytes - 1
    _, message = load_joint(bitops="w4a4", size=size)
    assert "): no fine-tuned policy meets the same limits; " in message


def test_options_that_the_plan_does_not_depend_on_change_neither_advice_nor_expectation(tiny, between, load_joint):
    model, advice = load_joint(between, bitops="w4a3")
    own = {"alpha": tiny.indicators.alpha, "counting": "exact", "importance": "learned"}
    for options in ({"time_limit_s": 30.0}, {"allow_gap": "1%"}, own):
        other, message = load_joint(between, bitops="w4a3", **options)
        assert other.limpq.plan.policy == model.limpq.plan.policy
        assert (message, other.limpq.expected_top1) == (advice, model.limpq.expected_top1)
    # A limit that every choice of bits meets is named, and the plan is that of the BitOps all the same.
    other, message = load_joint(between, bitops="w4a3", compression="1x")
    assert other.limpq.expected_top1 == model.limpq.expected_top1
    assert "--bitops w4a3 --compression 1x --data" in message


def test_the_line_says_whether_a_policy_was_proven_searched_or_given(tiny):
    proven, given = load(tiny.name, bitops="w3a3").limpq, load(tiny.name, policy=tiny.policies["small"]).limpq
    assert "BitOps (proven optimal), " in str(proven)
    assert "BitOps (as given), " in str(given)
    within = replace(proven, plan=replace(proven.plan, optimal=False, objective=2.5, bound=2.25, way="HiGHS"))
    assert "BitOps (searched, bound 2.250000 of 2.500000), " in str(within)


@pytest.mark.parametrize("weights", ["finetuned", "joint"])
def test_weights_that_insist_and_random_ones_contradict_each_other(tiny, weights):
    with pytest.raises(UnknownModelError, match=f"^weights='{weights}' and pretrained=False contradict each other"):
        load(tiny.name, policy=tiny.policies["small"], weights=weights, pretrained=False)


def test_what_is_loaded_in_inference_mode_is_a_network_like_any_other(tiny):
    with torch.inference_mode():
        model = load(tiny.name, policy=tiny.policies["small"])
        inside = model(tiny.images)
    assert not any(parameter.is_inference() for parameter in model.parameters())
    x = tiny.images.clone().requires_grad_()
    model(x).sum().backward()
    assert x.grad is not None
    with torch.no_grad():
        torch.testing.assert_close(inside, load(tiny.name, policy=tiny.policies["small"])(tiny.images))
