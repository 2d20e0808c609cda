"""The bundled networks of ImageNet-1k: what is written of them, recounted on photographs that no training saw."""

from __future__ import annotations

import io
import tarfile
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image
from timm.data import ImageNetInfo, create_transform
from torch import Tensor, nn

import limpq_hub
from limpq_hub.plan.jsonfile import read_json
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_folder import load_float_network
from limpq_hub.zoo.loading import NotFineTunedWarning

NAMES = [name for name in limpq_hub.list_models() if name.endswith(".in1k")]
POLICIES = [(name, published.name) for name in NAMES for published in find_entry(name).published]
PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "data" / "imagenet-photographs-val.tar"
LION = "n02129165"
# Every fifth of the 1,300.
EVERY = 5
RESULTS = Path(__file__).parents[1] / "training" / "results"
CONTENDERS = {"measured": "measured pairs", "uniform filled": "uniform, filled up"}
STAGES = {"calibrated": "without training", "joint": "joint", "finetuned": "fine-tuned"}


def index_of(wnid: str) -> int:
    """Return the place of a class among the thousand, in the order of their names."""
    return sorted(ImageNetInfo().label_names()).index(wnid)


@pytest.fixture(scope="module")
def photographs() -> list[tuple[str, bytes]]:
    """Class and content of each validation photograph, in the order of their names."""
    if not PHOTOGRAPHS.is_file():
        pytest.skip("../shared/data is absent")
    with tarfile.open(PHOTOGRAPHS) as archive:
        members = sorted((member for member in archive if member.isfile()), key=lambda member: member.name)
        return [(member.name.split("/")[-2], archive.extractfile(member).read()) for member in members]


def prepared(contents: list[bytes]) -> Tensor:
    """Return pictures as timm prepares them for weights of TensorFlow, [pictures, 3, 224, 224]."""
    half = (0.5, 0.5, 0.5)
    prepare = create_transform((3, 224, 224), crop_pct=0.875, interpolation="bicubic", mean=half, std=half)
    return torch.stack([prepare(Image.open(io.BytesIO(content)).convert("RGB")) for content in contents])


@torch.inference_mode()
def classes_of(network: nn.Module, contents: list[bytes]) -> Tensor:
    return torch.cat(
        [network(prepared(contents[start : start + 20])).argmax(1) for start in range(0, len(contents), 20)]
    )


def loaded_as_published(name: str, policy: str) -> nn.Module:
    published = {published.name: published for published in find_entry(name).published}[policy]
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotFineTunedWarning)
        return limpq_hub.load(name, bitops=published.bitops)


def test_networks_of_imagenet_are_bundled_with_policies_at_three_budgets():
    assert NAMES == ["mobilenetv2_100.in1k", "tf_efficientnet_lite0.in1k"]
    assert find_entry("mobilenetv2_100").name == "mobilenetv2_100.in1k"
    assert find_entry("efficientnet_lite0").name == "tf_efficientnet_lite0.in1k"
    for name in NAMES:
        assert {policy for network, policy in POLICIES if network == name} >= {"w4a4", "w6a6", "w8a8"}
        summary = find_entry(name).summary()
        assert (summary["input_size"], summary["num_classes"]) == (224, 1000)


@pytest.mark.parametrize("name", NAMES)
def test_a_lion_is_a_lion(name, photographs):
    assert find_entry(name).classes[index_of(LION)]["name"].startswith("lion")
    lions = [content for wnid, content in photographs if wnid == LION]
    found = classes_of(loaded_as_published(name, "w6a6"), lions)
    assert (found == index_of(LION)).float().mean() > 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("name", "policy"), POLICIES)
def test_the_stated_top1_and_agreement_of_each_policy_hold_on_a_fifth_of_the_photographs(name, policy, photographs):
    some = photographs[::EVERY]
    contents, labels = [content for _, content in some], torch.tensor([index_of(wnid) for wnid, _ in some])
    model = loaded_as_published(name, policy)
    found, of_float = (
        classes_of(network, contents) for network in (model, load_float_network(find_entry(name).folder))
    )
    stated = {published.name: published for published in find_entry(name).published}[policy]
    for share, percent in (((found == labels), stated.top1), ((found == of_float), stated.agreement)):
        standard_error = (percent * (100 - percent) / len(some)) ** 0.5
        assert abs(100 * float(share.float().mean()) - percent) < 4 * standard_error


def cells_of(figures: dict) -> str:
    """Return what a table shows of a measurement: top-1 and agreement in percent, KL in nats, each with its error."""
    return (
        f"{figures['top1']:.2f} ± {figures['top1_standard_error']:.2f} | "
        f"{figures['agreement']:.2f} ± {figures['agreement_standard_error']:.2f} | "
        f"{figures['kl']:.4f} ± {figures['kl_standard_error']:.4f}"
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("file", "column"), [("comparison.json", 0), ("finetuned_longer.json", 0), ("photographs_of_others.json", 1)]
)
def test_the_results_show_each_policy_as_it_was_measured(name, file, column):
    rows = [line for line in (RESULTS / name / "README.md").read_text().splitlines() if line.startswith("| ")]
    measured = read_json(RESULTS / name / file)["comparison"]
    assert {policy["contender"] for policy in measured} == set(CONTENDERS)
    for policy in measured:
        policies = (CONTENDERS[policy["contender"]], "both")
        shown = [row.split(" | ") for row in rows if row.startswith(f"| {policy['budget']} | ")]
        of_policy = [cells for cells in shown if cells[1] in policies and len(cells) == 9]
        for stage in set(STAGES) & set(policy):
            of_stage = [cells[3 + 3 * column :][:3] for cells in of_policy if cells[2].startswith(STAGES[stage])]
            found = [" | ".join(cells).removesuffix(" |") for cells in of_stage]
            assert cells_of(policy[stage]) in found, (policy["budget"], policy["contender"], stage)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_learned_steps_chose_is_shown_as_it_was_measured(name):
    """The table has top-1 and KL of each stage; a dash where there is none."""
    rows = [line for line in (RESULTS / name / "README.md").read_text().splitlines() if line.startswith("| ")]
    names = {**CONTENDERS, "learned": "learned steps", "coupled:near": "`coupled:near`"}
    for policy in read_json(RESULTS / name / "learned_and_coupled.json")["comparison"]:
        cells = []
        for figures in map(policy.get, STAGES):
            shown = (("top1", 2), ("kl", 4)) if figures else ()
            cells += [
                f"{figures[key]:.{digits}f} ± {figures[f'{key}_standard_error']:.{digits}f}" for key, digits in shown
            ]
            cells += [] if figures else ["-", "-"]
        bits = f"{policy['mean_weight_bits']:.1f} / {policy['mean_activation_bits']:.1f}"
        row = [policy["budget"], names[policy["contender"]], bits, *cells]
        assert f"| {' | '.join(row)} |" in rows


@pytest.mark.parametrize("name", NAMES)
def test_what_criteria_of_others_chose_is_shown_as_it_was_measured(name):
    """The table has each policy with the joint weights, and how it differs from that of the entry's own search."""
    rows = [line for line in (RESULTS / name / "README.md").read_text().splitlines() if line.startswith("| ")]
    first, *others = read_json(RESULTS / name / "criteria_of_others.json")["comparison"]
    assert [row["contender"] for row in others] == ["hessian", "hessian:equal", "gradient", "error"]
    for policy in (first, *others):
        figures, difference = policy["joint"], policy.get("paired", {}).get("joint")
        who = "measured pairs" if policy is first else f"`{policy['contender']}`"
        cells = [policy["budget"], who, f"{policy['mean_weight_bits']:.1f} / {policy['mean_activation_bits']:.1f}"]
        cells += [f"{figures['top1']:.2f} ± {figures['top1_standard_error']:.2f}"]
        cells += [f"{figures['kl']:.4f} ± {figures['kl_standard_error']:.4f}"]
        if difference is None:
            cells += ["-", "-"]
        else:
            less = f"{difference['kl']:+.4f} ± {difference['kl_standard_error']:.4f} {difference['verdict']}"
            cells += [less, f"{difference['right']:+.2f} ± {difference['right_standard_error']:.2f}"]
        assert f"| {' | '.join(cells)} |" in rows, policy["contender"]


@pytest.mark.parametrize("name", NAMES)
def test_the_photographs_of_others_show_every_budget_at_every_stage(name):
    measured = read_json(RESULTS / name / "photographs_of_others.json")["comparison"]
    assert {(policy["budget"], policy["contender"]) for policy in measured} == {
        (budget, contender) for budget in ("w4a4", "w6a6", "w8a8") for contender in CONTENDERS
    }
    for policy in measured:
        assert {stage: policy[stage]["images"] for stage in STAGES} == dict.fromkeys(STAGES, 500)


@pytest.mark.parametrize("name", NAMES)
def test_the_results_show_each_policy_that_was_fine_tuned_longer_beside_the_uniform_one(name):
    text = (RESULTS / name / "README.md").read_text()
    measured = read_json(RESULTS / name / "finetuned_longer.json")["comparison"]
    assert [row["contender"] for row in measured] == ["measured", "uniform filled"] * (len(measured) // 2)
    for row in measured:
        figures = row["finetuned"]
        cells = [f"{figures['top1']:.2f} ± {figures['top1_standard_error']:.2f}"]
        cells += [f"{figures['kl']:.4f} ± {figures['kl_standard_error']:.4f}"]
        if "less_uniform" in row:
            less = row["less_uniform"]
            cells += [f"{less['right']:+.2f} ± {less['right_standard_error']:.2f}"]
            cells += [f"{less['kl']:+.4f} ± {less['kl_standard_error']:.4f}"]
        assert " | ".join(cells) in text


@pytest.mark.parametrize(("name", "policy"), POLICIES)
def test_the_published_policy_is_the_one_that_was_compared(name, policy):
    published = {published.name: published for published in find_entry(name).published}[policy]
    longer = read_json(RESULTS / name / "finetuned_longer.json")["comparison"]
    measured = longer + read_json(RESULTS / name / "comparison.json")["comparison"]
    compared = next(row for row in measured if (row["budget"], row["contender"]) == (policy, "measured"))
    assert published.top1 == compared["finetuned"]["top1"]
    assert (published.policy_sha256, published.bitops) == (compared["policy_sha256"], compared["bitops"])
