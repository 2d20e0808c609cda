"""BatchNorm statistics of anchor policies: which are kept, and which a policy gets."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from limpq_hub import Policy, frontier
from limpq_hub.errors import ArtifactFormatError, ArtifactVersionError, DataError
from limpq_hub.plan.jsonfile import json_text
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy_costs import total_bitops
from limpq_hub.quant.batch_norm_calibration import recalibrate_batch_norm_
from limpq_hub.quant.batch_norm_correction import correct_batch_norm_
from limpq_hub.quant.convert import select_policy
from limpq_hub.quant.switchable_batch_norm import switching_norms
from limpq_hub.zoo import anchors
from limpq_hub.zoo.anchors import (
    anchor_policies,
    apply_nearest_anchors_,
    recode_anchors,
    save_anchors,
    statistics_of_entry,
)
from limpq_hub.zoo.assembly import assemble_entry
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_tensors import with_numbers
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.half_precision import halved_statistics
from limpq_hub.zoo.loading import load
from limpq_hub.zoo.tensors import tensors_from_bytes, tensors_to_bytes


@pytest.fixture
def anchored(tiny, entry_copy, reseal):
    """A copy of the tiny entry with anchors at its uniform policies."""
    uniform = [Policy.uniform("test_resnet", tiny.costs, bits, input_size=32) for bits in (4, 3, 2)]
    save_anchors(entry_copy, tiny.supernet, uniform, [tiny.images])
    reseal(entry_copy)
    return entry_copy


def sha256_of(file) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def statistics(network) -> dict[str, torch.Tensor]:
    return {key: value for key, value in network.state_dict().items() if "running_" in key}


@pytest.mark.parametrize("gap", [1, 3, 8, 999])
def test_anchors_are_the_uniform_policies_and_neighbours_along_the_front(tiny, gap):
    policies = anchor_policies(tiny.indicators, gap)
    bitops = [total_bitops(tiny.costs, policy) for policy in policies]
    assert [set(policy.layers.values()) - {LayerBits(8, 8)} for policy in policies[:3]] == [
        {LayerBits(bits, bits)} for bits in (4, 3, 2)
    ]
    assert len({policy.digest() for policy in policies}) == len(policies)
    assert (min(bitops), max(bitops)) == (bitops[2], bitops[0])


def test_where_their_file_would_hold_too_much_text_neighbours_are_further_apart(tiny, monkeypatch):
    near, far = anchor_policies(tiny.indicators, 1), anchor_policies(tiny.indicators, 4)
    text = json_text({"policies": [policy.to_json() for policy in far]})
    monkeypatch.setattr(anchors, "_MOST_TEXT_BYTES", len(text))
    assert anchor_policies(tiny.indicators, 1) == far != near
    monkeypatch.setattr(anchors, "_MOST_TEXT_BYTES", 1)
    assert 3 <= len(anchor_policies(tiny.indicators, 1)) <= 5  # the uniform ones and both ends stay


def test_a_smaller_gap_leaves_no_policy_of_the_frontier_farther_from_an_anchor(tiny):
    def farthest(gap: int) -> int:
        anchors = anchor_policies(tiny.indicators, gap)
        return max(min(bits_apart(anchor, plan.policy) for anchor in anchors) for plan in frontier(tiny.indicators))

    assert farthest(1) <= farthest(4) <= farthest(999)
    assert farthest(1) < farthest(999)


def bits_apart(one: Policy, other: Policy) -> int:
    assert one.layers.keys() == other.layers.keys()
    ours, theirs = ([(bits.weight, bits.activation) for _, bits in sorted(p.layers.items())] for p in (one, other))
    return int((torch.tensor(ours) - torch.tensor(theirs)).abs().sum())


def test_each_batch_norm_gets_the_statistics_of_the_nearest_anchor_with_the_weight_bits_before_it(tiny, anchored):
    layers = dict(Policy.uniform("test_resnet", tiny.costs, 3).layers)
    first = next(name for name, bits in layers.items() if bits == LayerBits(3, 3))
    policy = Policy("test_resnet", layers | {first: LayerBits(2, 4)}, 32)
    network = select_policy(tiny.supernet, policy).eval()
    apply_nearest_anchors_(network, policy, find_entry(f"local-dir:{anchored}").folder, switching_norms(tiny.supernet))
    expected = {}
    for bits in (2, 3):
        uniform = select_policy(tiny.supernet, Policy.uniform("test_resnet", tiny.costs, bits)).eval()
        recalibrate_batch_norm_(uniform, [tiny.images])
        expected[bits] = statistics(uniform)
    fed_by_first = {norm for norm, layer in switching_norms(tiny.supernet).items() if layer == first}
    assert fed_by_first
    for key, value in statistics(network).items():
        bits = 2 if key.rpartition(".")[0] in fed_by_first else 3
        assert torch.equal(value, expected[bits][key].half().float()), key


def test_joint_weights_are_served_with_anchor_statistics(tiny, anchored, entry_copy):
    with pytest.warns(UserWarning, match="was not fine-tuned"):
        model = load(f"local-dir:{anchored}", policy=tiny.joint)
    uniform = select_policy(tiny.supernet, tiny.joint).eval()
    recalibrate_batch_norm_(uniform, [tiny.images])
    for key, value in statistics(model).items():
        assert torch.equal(value, statistics(uniform)[key].half().float())


def test_an_entry_without_anchors_keeps_the_statistics_of_joint_training(tiny):
    network = select_policy(tiny.supernet, tiny.joint).eval()
    before = statistics(select_policy(tiny.supernet, tiny.joint))
    apply_nearest_anchors_(network, tiny.joint, find_entry(tiny.name).folder, switching_norms(tiny.supernet))
    assert all(torch.equal(value, before[key]) for key, value in statistics(network).items())


def test_anchors_of_another_format_are_refused_with_what_to_do(tiny, anchored, reseal):
    (anchored / "anchors.json").write_text('{"format": 3, "policies": []}')
    reseal(anchored)
    message = (
        r"anchors\.json: format 3 is not one of the formats 1 to 2 that this version reads; upgrade limpq-hub, or f"
    )
    with pytest.raises(ArtifactVersionError, match=message):
        load(f"local-dir:{anchored}", policy=tiny.joint)


def write_as_format_1(folder, reseal) -> None:
    """Write the anchors of an entry as earlier versions did: a tensor for each anchor and statistic, not coded."""
    path = folder / "anchors.safetensors"
    stacked = with_numbers(tensors_from_bytes(path.read_bytes(), "anchors"), "anchors")
    rows = {f"{index}.{name}": row for name, value in stacked.items() for index, row in enumerate(value)}
    path.write_bytes(tensors_to_bytes(rows))
    content = json.loads((folder / "anchors.json").read_text())
    (folder / "anchors.json").write_text(json.dumps(content | {"format": 1}))
    reseal(folder)


def served(tiny, folder, policy: Policy) -> dict[str, torch.Tensor]:
    """Return the statistics that a policy gets from the anchors of an entry."""
    network = select_policy(tiny.supernet, policy).eval()
    apply_nearest_anchors_(network, policy, find_entry(f"local-dir:{folder}").folder, switching_norms(tiny.supernet))
    return statistics(network)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_anchors_of_format_1_give_the_same_statistics(bits, tiny, anchored, reseal):
    policy = Policy.uniform("test_resnet", tiny.costs, bits, input_size=32)
    now = served(tiny, anchored, policy)
    write_as_format_1(anchored, reseal)
    before = served(tiny, anchored, policy)
    assert before.keys() == now.keys()
    assert all(torch.equal(value, now[key]) for key, value in before.items())


def test_anchors_are_written_anew_in_fewer_bytes_as_if_they_were_measured_now(anchored, reseal, tmp_path):
    file, description = anchored / "anchors.safetensors", anchored / "anchors.json"
    now = file.read_bytes(), json.loads(description.read_text())
    write_as_format_1(anchored, reseal)
    assert len(now[0]) < file.stat().st_size
    recode_anchors(find_entry(f"local-dir:{anchored}").folder, anchored)
    assert (file.read_bytes(), json.loads(description.read_text())) == now


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({}, "does not hold the same statistics"),
        ({"0.bn1.running_mean": torch.zeros(4)}, "tensor 1.bn1.running_mean is missing"),
        (
            {f"{i}.bn1.running_mean": torch.zeros(4) for i in range(4)},
            "does not hold the same statistics",
        ),
        (
            {f"{i}.bn1.running_mean": torch.zeros(3 + i) for i in range(3)},
            "tensor bn1.running_mean has another shape at another anchor",
        ),
    ],
)
def test_damaged_anchors_are_not_written_anew(tensors, told, anchored, reseal):
    write_as_format_1(anchored, reseal)
    file = anchored / "anchors.safetensors"
    save_file(tensors, file)
    reseal(anchored)
    before = file.read_bytes()
    with pytest.raises(ArtifactFormatError, match=told):
        recode_anchors(find_entry(f"local-dir:{anchored}").folder, anchored)
    assert file.read_bytes() == before


def test_an_entry_recodes_its_anchors_too(anchored, reseal, tmp_path):
    now = (anchored / "anchors.safetensors").read_bytes()
    write_as_format_1(anchored, reseal)
    assemble_entry(open_local_folder(anchored, "entry"), {}, tmp_path / "recoded", recode=True)
    assert (tmp_path / "recoded/anchors.safetensors").read_bytes() == now


@pytest.mark.parametrize("is_of_these", [True, False])
def test_a_front_stays_that_of_recoded_anchors(anchored, reseal, tmp_path, is_of_these):
    now = sha256_of(anchored / "anchors.safetensors")
    write_as_format_1(anchored, reseal)
    measured = sha256_of(anchored / "anchors.safetensors") if is_of_these else "0" * 64
    assert measured != now
    metrics = json.loads((anchored / "metrics.json").read_text())
    (anchored / "metrics.json").write_text(json.dumps(metrics | {"joint_provenance": {"anchors_sha256": measured}}))
    reseal(anchored)
    assemble_entry(open_local_folder(anchored, "entry"), {}, tmp_path / "recoded", recode=True)
    recoded = json.loads((tmp_path / "recoded/metrics.json").read_text())
    assert recoded["joint"] == metrics["joint"]
    assert recoded["joint_provenance"] == {"anchors_sha256": now if is_of_these else measured}


def test_statistics_that_one_anchor_has_in_single_precision_stay_as_exact(tiny, entry_copy, reseal, tmp_path):
    first, second = (Policy.uniform("test_resnet", tiny.costs, bits, input_size=32) for bits in (4, 2))
    exact = {name: value + 1 / 3 for name, value in statistics(select_policy(tiny.supernet, first)).items()}
    save_file(exact, tmp_path / f"{first.digest()}.safetensors")
    save_anchors(entry_copy, tiny.supernet, [first, second], [tiny.images], kept=tmp_path)
    reseal(entry_copy)
    measured = load_file(tmp_path / f"{second.digest()}.safetensors")
    assert {value.dtype for value in measured.values()} == {torch.float16}
    for policy, expected in ((first, exact), (second, measured)):
        for name, value in served(tiny, entry_copy, policy).items():
            assert torch.equal(value, expected[name].float())


def test_statistics_that_could_not_be_loaded_again_leave_the_anchors_that_are_there(tiny, anchored, tmp_path):
    before = {path.name: path.read_bytes() for path in anchored.iterdir() if path.is_file()}
    with pytest.raises(DataError, match=r"^the images give batch normalization conv1\.1 numbers that are not finite "):
        save_anchors(anchored, tiny.supernet, [tiny.joint], [torch.nan * tiny.images], kept=tmp_path / "kept")
    assert {path.name: path.read_bytes() for path in anchored.iterdir() if path.is_file()} == before
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    ("variance", "eps", "halved"),
    [(2e-8, 1e-9, False), (2e-8, 1e-5, True), (2e-8, 1e-3, True), (1e-3, 1e-12, True), (70_000.0, 1e-5, False)],
)
def test_a_variance_is_halved_where_its_digits_make_no_difference_beside_eps(variance, eps, halved):
    exact = torch.tensor([variance, 1.0])
    _, kept = halved_statistics(torch.zeros(2), exact, eps)
    assert kept.dtype == (torch.float16 if halved else torch.float32)
    ratio = ((kept.double() + eps) / (exact.double() + eps)).sqrt()
    assert bool(((ratio - 1).abs() <= 2**-8).all())


def test_a_mean_is_halved_where_it_is_near_enough_beside_the_deviation_and_eps():
    means, variances = torch.tensor([0.3]), torch.tensor([1e-10])
    assert halved_statistics(means, variances, 1e-5)[0].dtype == torch.float32
    assert halved_statistics(torch.tensor([0.003]), variances, 1e-5)[0].dtype == torch.float16
    assert halved_statistics(torch.tensor([0.003]), variances, 1e-12)[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda value: value[:1], r"tensor bn1\.running_mean has no row 2, found \[1, \d+\]"),
        (lambda value: value[0], r"tensor bn1\.running_mean has no row 2, found \[\d+\]"),
        (lambda value: value[:, :1], r"tensor bn1\.running_mean is torch\.float16 \[1\], the network needs"),
    ],
)
def test_anchors_of_other_shapes_are_refused(change, told, tiny, anchored, reseal):
    path = anchored / "anchors.safetensors"
    tensors = load_file(path)
    tensors["bn1.running_mean"] = change(tensors["bn1.running_mean"]).contiguous()
    save_file(tensors, path)
    reseal(anchored)
    with pytest.raises(ArtifactFormatError, match=told):
        load(f"local-dir:{anchored}", policy=Policy.uniform("test_resnet", tiny.costs, 2, input_size=32))


def test_an_anchor_of_another_format_is_told_with_its_file_and_what_to_do(tiny, anchored, reseal):
    content = json.loads((anchored / "anchors.json").read_text())
    content["policies"][1]["format"] = 2
    (anchored / "anchors.json").write_text(json.dumps(content))
    reseal(anchored)
    message = r"/anchors\.json: not a policy of format 1: found format 2; upgrade limpq-hub$"
    with pytest.raises(ArtifactVersionError, match=message):
        load(f"local-dir:{anchored}", policy=tiny.joint)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"format": 1, "policies": 3}', r"anchors\.json: policies must be a list, found 3"),
        ("[]", r"anchors\.json.* found \[\]"),
    ],
)
def test_malformed_anchors_are_refused(tiny, anchored, reseal, content, told):
    (anchored / "anchors.json").write_text(content)
    reseal(anchored)
    with pytest.raises(ArtifactFormatError, match=told):
        load(f"local-dir:{anchored}", policy=tiny.joint)
    with pytest.raises(ArtifactFormatError, match=told):
        statistics_of_entry(find_entry(f"local-dir:{anchored}").folder)


def test_anchors_can_hold_the_corrected_statistics_of_the_float_network(tiny, entry_copy, float_network, reseal):
    network = float_network.eval()
    save_anchors(entry_copy, tiny.supernet, [tiny.joint], [tiny.images], network)
    reseal(entry_copy)
    folder = find_entry(f"local-dir:{entry_copy}").folder
    assert statistics_of_entry(folder) == "corrected"
    quantized = select_policy(tiny.supernet, tiny.joint).eval()
    apply_nearest_anchors_(quantized, tiny.joint, folder, switching_norms(tiny.supernet))
    expected = select_policy(tiny.supernet, tiny.joint).eval()
    correct_batch_norm_(expected, [tiny.images], network)
    assert all(
        torch.equal(value, statistics(expected)[key].half().float()) for key, value in statistics(quantized).items()
    )


def test_what_statistics_an_entry_has_is_read_from_its_anchors(tiny, anchored, entry_copy, reseal):
    assert statistics_of_entry(find_entry(f"local-dir:{anchored}").folder) == "measured"
    assert statistics_of_entry(find_entry(tiny.name).folder) == "kept"
    content = json.loads((entry_copy / "anchors.json").read_text())
    (entry_copy / "anchors.json").write_text(json.dumps(content | {"statistics": "guessed"}))
    reseal(entry_copy)
    folder = find_entry(f"local-dir:{entry_copy}").folder
    with pytest.raises(ArtifactFormatError) as caught:
        statistics_of_entry(folder)
    assert f"{folder.name}/anchors.json: statistics 'guessed' is not 'measured' or 'corrected' or 'kept'; " in str(
        caught.value
    )
