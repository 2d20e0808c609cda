"""The bundled ResNet-18: what is written of it, recounted with hooks and checked on real photographs."""

import copy
import io
import re
import tarfile
import warnings
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from benchmarks.comparison_over_seeds import rows_of as rows_of_seeds
from PIL import Image
from scipy.stats import spearmanr
from timm.data import create_transform
from torch import nn

import limpq_hub
from limpq_hub.errors import InfeasibleBudgetError
from limpq_hub.plan.jsonfile import read_json
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.frozen_layers import thaw_
from limpq_hub.quant.layers import QuantLayer
from limpq_hub.train.measure.contenders import contenders
from limpq_hub.train.measure.criteria import indicators_by
from limpq_hub.train.measure.criteria import table as cost_table
from limpq_hub.zoo.card_commands import without_paths
from limpq_hub.zoo.catalog import BUNDLED, find_entry
from limpq_hub.zoo.entry_folder import load_float_network
from limpq_hub.zoo.loading import NotFineTunedWarning
from limpq_hub.zoo.policy_request import plan_for

ROOT = Path(__file__).parents[1]
FIRST_PAGE = ROOT / "README.md"
RESULTS = ROOT / "training/results/resnet18.tiny_imagenet/README.md"
VALIDATION = Path(__file__).parents[2] / "shared" / "data" / "tiny-imagenet-val.tar.gz"
POLICIES = ("1.5G", "w3a3", "w4a4", "3G")


def rows_of(document: Path) -> list[str]:
    """Return the lines of the tables of a Markdown file."""
    return [line for line in document.read_text().splitlines() if line.startswith("| ")]


def tables_of(document: Path) -> list[list[str]]:
    """Return the rows of each table of a Markdown file, names in code as plain text."""
    blocks = document.read_text().replace("`", "").split("\n\n")
    return [block.splitlines() for block in blocks if block.startswith("| ")]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotFineTunedWarning)
        return limpq_hub.load("resnet18", bitops="3G")


@pytest.fixture(scope="module", params=[200, pytest.param(1000, marks=pytest.mark.slow)])
def photographs(request) -> tuple[torch.Tensor, torch.Tensor]:
    """A fiftieth or a tenth of the validation photographs, [images, 3, 64, 64], and the class index of each."""
    if not VALIDATION.is_file():
        pytest.skip("../shared/data is absent")
    classes = [record["id"] for record in find_entry("resnet18").classes]
    prepare = create_transform((3, 64, 64), crop_pct=1.0, interpolation="bilinear")
    images, labels = [], []
    with tarfile.open(VALIDATION) as archive:
        names = sorted(name for name in archive.getnames() if name.endswith(".JPEG"))
        wanted = set(names[:: len(names) // request.param])
        for member in archive:
            if member.name in wanted:
                data = archive.extractfile(member).read()
                images.append(prepare(Image.open(io.BytesIO(data)).convert("RGB")))
                labels.append(classes.index(member.name.split("/")[-2]))
    return torch.stack(images), torch.tensor(labels)


def test_3g_loads_a_fine_tuned_network_within_its_budget(model):
    assert model.limpq.weights == "finetuned"
    assert model.limpq.top1 is not None
    assert model.limpq.plan.optimal
    assert model.limpq.plan.bitops <= 3_000_000_000
    assert not model.training
    assert str(model.limpq).startswith("resnet18 at 64x64: 2,99")
    assert "BitOps (proven optimal)" in str(model.limpq)
    assert isinstance(model, timm.models.ResNet)


def test_the_bitops_are_what_hooks_on_the_running_network_count(model):
    """An own count: multiplications of each real convolution from its output, times the levels' bits."""
    counted = []

    def count(layer, inputs, output):
        macs = prod(output.shape[1:]) * layer.weight[0].numel()
        counted.append(macs * layer.weight_quantizer.bits * layer.activation_quantizer.bits)

    handles = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, QuantLayer)]
    model(torch.zeros(1, 3, 64, 64))
    for handle in handles:
        handle.remove()
    assert sum(counted) == model.limpq.plan.bitops
    weights = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(counted) == len(weights)


def test_every_weight_and_every_layer_input_has_at_most_its_levels(model, monkeypatch):
    policy = model.limpq.plan.policy.layers
    seen = {}
    convolve, multiply = nn.Conv2d._conv_forward, nn.functional.linear

    def watch(name, x, weight):
        seen[name] = (x.unique().numel(), weight.unique().numel())

    def watched_convolution(self, x, weight, bias):
        watch(layer_of[id(self)], x, weight)
        return convolve(self, x, weight, bias)

    def watched_linear(x, weight, bias=None):
        watch("fc", x, weight)
        return multiply(x, weight, bias)

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", watched_convolution)
    monkeypatch.setattr(nn.functional, "linear", watched_linear)
    as_trained = thaw_(copy.deepcopy(model))
    layer_of = {id(layer): name for name, layer in as_trained.named_modules() if isinstance(layer, QuantLayer)}
    as_trained(torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert seen.keys() == policy.keys()
    for name, (inputs, weights) in seen.items():
        assert inputs <= 2 ** policy[name].activation, name
        assert weights <= 2 ** policy[name].weight, name


def standard_errors_from(stated: float, network: nn.Module, photographs: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Return how far top-1 on the photographs is from the stated one, in standard errors of a top-1 near 50 %."""
    images, labels = photographs
    with torch.inference_mode():
        found = torch.cat([network(batch) for batch in images.split(200)]).argmax(1)
    top1 = float((found == labels).double().mean())
    return abs(top1 - stated / 100) / (0.5 * 0.5 / len(images)) ** 0.5


@pytest.mark.parametrize("bitops", POLICIES)
def test_the_stated_top1_of_each_policy_holds_on_a_part_of_the_validation_photographs(bitops, photographs):
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotFineTunedWarning)
        model = limpq_hub.load("resnet18", bitops=bitops)
    assert standard_errors_from(model.limpq.top1, model, photographs) < 4


def test_the_stated_top1_of_the_float_network_holds_on_a_part_of_the_validation_photographs(photographs):
    entry = find_entry("resnet18")
    network = load_float_network(entry.folder)
    assert standard_errors_from(entry.summary()["float_top1"], network, photographs) < 4


def test_any_other_budget_is_served_from_the_joint_weights_with_a_warning(photographs):
    with pytest.warns(
        NotFineTunedWarning, match=r"at 2\.00G BitOps was not fine-tuned.*limpq_hub\.train\.finetune --model"
    ):
        model = limpq_hub.load("resnet18", bitops="2G")
    assert model.limpq.weights == "joint"
    assert standard_errors_from(model.limpq.top1, model, photographs) < 4


def test_a_budget_between_the_measured_ones_says_what_to_expect():
    with pytest.warns(NotFineTunedWarning, match=r"about \d\d\.\d % top-1 expected"):
        model = limpq_hub.load("resnet18", bitops="2.1G")
    front = {record["bitops"]: record["top1"] for record in find_entry("resnet18").front(calibrated=False)}
    below, above = (top1 for bitops, top1 in sorted(front.items()) if 1_950_000_000 < bitops < 2_300_000_000)
    assert model.limpq.top1 is None
    assert min(below, above) <= model.limpq.expected_top1 <= max(below, above)


def test_the_front_is_measured_at_twelve_budgets_or_more_with_shipped_and_recalibrated_batch_norm():
    entry = find_entry("resnet18")
    summary = entry.summary()
    for calibrated in (False, True):
        front = entry.front(calibrated=calibrated)
        assert len(front) >= 12
        assert all(record["images"] == 10_000 for record in front)
        assert front[-1]["bitops"] < 1.05 * summary["minimum_bitops"]
        assert front[0]["bitops"] > 0.95 * limpq_hub.search("resnet18", bitops=summary["maximum_bitops"]).bitops


def test_every_artifact_says_how_it_came_about():
    entry = find_entry("resnet18")
    trainings = [entry.checkpoint(published.name).config["provenance"] for published in entry.published]
    trainings.append(entry.indicators.provenance)
    assert all(record["seconds"] > 0 for record in trainings)
    for record in (*trainings, entry.metrics["joint_provenance"]):
        assert record["command"].startswith("accelerate launch training/")
        assert {"seed", "device", "date", "versions"} <= set(record)
        assert len(record["data"]["validation_names_sha256"]) == 64
        assert record["data"]["validation_images"] == 10_000


@pytest.mark.parametrize("document", [FIRST_PAGE, RESULTS], ids=["first page", "results"])
def test_the_figures_of_what_ships_are_those_of_the_artifacts(document):
    entry, rows = find_entry("resnet18"), rows_of(document)
    assert any("float32" in row and f"{entry.summary()['float_top1']:.2f} %" in row for row in rows)
    for published in entry.published:
        assert any(published.name in row and f"{published.top1:.2f} %" in row for row in rows), published.name


def test_the_figures_of_budgets_without_training_are_those_of_the_artifacts():
    entry, rows = find_entry("resnet18"), rows_of(RESULTS)
    for record in (*entry.front(calibrated=False), *entry.front(calibrated=True)):
        bitops = f"{record['bitops'] / 1e9:.2f} G"
        assert any(bitops in row and f"{record['top1']:.2f} %" in row for row in rows), bitops


@pytest.mark.parametrize(
    "file", ["comparison_with_uniform.json", "six_bits/comparison.json", "six_bits/comparison_with_uniform.json"]
)
def test_the_comparisons_in_the_results_are_those_that_were_measured(file):
    measured = RESULTS.parent / file
    rows = rows_of(measured.with_name("README.md"))
    for policy in read_json(measured)["comparison"]:
        figures = " | ".join(
            f"{policy[stage]['top1']:.2f} ± {policy[stage]['top1_standard_error']:.2f} | "
            f"{policy[stage]['kl']:.4f} ± {policy[stage]['kl_standard_error']:.4f}"
            for stage in ("joint", "finetuned")
        )
        named = [row for row in rows if row.startswith(f"| {policy['budget']} | {policy['contender']} |")]
        assert any(figures in row for row in named)


def test_measured_pairs_of_all_layers_agree_on_the_network_with_three_bits_everywhere():
    divergences = find_entry("resnet18").indicators.divergences
    assert len(divergences) == 19
    of_three_bits = [of_pairs[LayerBits(3, 3)] for of_pairs in divergences.values()]
    assert of_three_bits == pytest.approx([of_three_bits[0]] * 19, rel=1e-6)


def proof_of(folder: Path) -> tuple[dict, list[list[str]]]:
    """Return what a proof measured, and the tables of its document, a list of rows each."""
    return read_json(folder / "proof.json"), tables_of(folder / "proof.md")


def words_of(page: Path) -> str:
    """Return the text of a page without its line breaks."""
    return " ".join(page.read_text().split())


def kl_text(difference: dict) -> str:
    return f"{difference['kl']:+.4f} ± {difference['kl_standard_error']:.4f} {difference['verdict']}"


def top1_text(difference: dict) -> str:
    return f"{difference['right']:+.2f} ± {difference['right_standard_error']:.2f}"


@pytest.mark.parametrize("folder", [RESULTS.parent, RESULTS.parent / "six_bits"], ids=["ships", "before"])
def test_the_tables_of_a_proof_show_what_was_measured(folder):
    proof, (joint, *others) = proof_of(folder)
    # That of the fine-tunings whose figures are in the proof alone, not those of each image.
    [finetuned] = [table for table in others if table[0].startswith("| policy | w3a3: KL | top-1 |")]
    stages = [
        ("joint", joint, proof["joint"], lambda of: [kl_text(of)]),
        ("finetuned", finetuned, proof["finetuned"]["0"], lambda of: [kl_text(of), top1_text(of)]),
    ]
    for stage, table, measured, cells_of in stages:
        heads = [head.strip().removesuffix(": KL") for head in table[0].split("|")]
        names = {policy["contender"] for policy in measured if "paired" in policy}
        assert {row.split(" | ")[0].removeprefix("| ") for row in table[3:]} == names
        for policy in measured:
            if "paired" not in policy:
                continue
            [row] = [row.split("|") for row in table if row.startswith(f"| {policy['contender']} |")]
            first, cells = heads.index(policy["budget"]), cells_of(policy["paired"][stage])
            assert [cell.strip() for cell in row[first : first + len(cells)]] == cells, policy["contender"]
    if folder.name == "six_bits":
        check_seeds(proof, others[1])


def check_seeds(proof: dict, table: list[str]) -> None:
    """The differences of each seed are those that were measured; the images of each are not kept."""
    for budget, contender in {tuple(row.split(" | ")[:2]) for row in table[2:]}:
        [row] = [row for row in table if row.startswith(f"{budget} | {contender} | ")]
        less = [
            policy["paired"]["finetuned"]
            for seed in sorted(proof["finetuned"])
            for policy in proof["finetuned"][seed]
            if (policy["budget"], policy["contender"]) == (budget.removeprefix("| "), contender)
        ]
        for key, digits in (("kl", 4), ("right", 2)):
            assert f" | {' '.join(format(one[key], f'+.{digits}f') for one in less)} | " in row


def test_the_proof_says_how_far_the_same_fine_tuning_differs_between_two_machines():
    proof, _ = proof_of(RESULTS.parent)
    differences = {}
    for seed, on_epyc in proof["finetuned"].items():
        kept = read_json(RESULTS.parent / f"finetuned/seed{seed}/comparison.json")["comparison"]
        on_xeon = {(row["budget"], row["contender"]): row["finetuned"] for row in kept if "cpu" not in row}
        for row in on_epyc:
            other, one = on_xeon[row["budget"], row["contender"]], row["finetuned"]
            # Contenders of one policy are one fine-tuning.
            differences[seed, row["policy_sha256"]] = (one["kl"] - other["kl"], one["top1"] - other["top1"])
    kl, top1 = (torch.tensor(of_one) for of_one in zip(*differences.values(), strict=True))
    stated = f"{kl.mean():.4f} nats higher on average, with a standard deviation of {kl.std():.4f}, and the top-1 "
    stated += f"{top1.mean():.2f} points higher, with {top1.std():.2f}"
    text = words_of(RESULTS.parent / "proof.md")
    assert f"Over the {len(differences)} fine-tunings that were made on both, the KL on the EPYC is {stated}." in text


def test_the_proof_says_how_far_policies_as_jointly_trained_differ_on_another_cpu():
    proof, _ = proof_of(RESULTS.parent)
    again = {(row["budget"], row["contender"]): row for row in read_json(RESULTS.parent / "joint_again.json")["joint"]}
    pairs = [(row, again[row["budget"], row["contender"]]) for row in proof["joint"]]
    same = [(one["joint"], other["joint"]) for one, other in pairs if one["policy_sha256"] == other["policy_sha256"]]
    verdicts = [[row["paired"]["joint"]["verdict"] for row in pair] for pair in pairs if "paired" in pair[0]]
    kl, top1 = (torch.tensor([other[key] - one[key] for one, other in same]) for key in ("kl", "top1"))
    stated = (
        f"{len(same)} of the {len(pairs)} rows have the same policies. Over them the KL is {kl.mean():.4f} nats higher "
        f"on average, with a standard deviation of {kl.std():.4f} and {kl.abs().max():.4f} at most, the top-1 "
        f"{top1.mean():+.2f} points, with {top1.std():.2f} and {top1.abs().max():.2f}; "
        f"{sum(one == other for one, other in verdicts)} of {len(verdicts)} verdicts are the same"
    )
    assert stated in words_of(RESULTS.parent / "proof.md")


def test_the_proof_says_how_far_measured_pairs_differ_with_other_kernels():
    entry = find_entry("resnet18").indicators
    again = read_json(RESULTS.parent / "pairs_again.json")
    budgets = [(bitops, apart) for bitops in ("w4a4", "w3a3", "2G", "1.5G", "1.3G") for apart in (None, 1)]

    def searched(divergences: dict[str, dict[LayerBits, float]]) -> list[Policy]:
        """Return the policies of these pairs, at each budget with any bits of a layer and with bits near each other."""
        indicators = replace(entry, divergences=divergences, objective="measured", apart=None)
        return [limpq_hub.search(indicators, bitops=bitops, apart=apart).policy for bitops, apart in budgets]

    stated = {}
    for kernels in ("contiguous", "channels_last"):
        pairs = {
            name: {LayerBits.of_text(bits): value for bits, value in of_layer.items()}
            for name, of_layer in again[kernels].items()
        }
        larger = torch.tensor(
            [100 * (value / entry.divergences[name][bits] - 1) for name in pairs for bits, value in pairs[name].items()]
        )
        figures = tuple(f"{figure:.2f} %" for figure in (larger.mean(), larger.std(), larger.abs().max()))
        same = [one == other for one, other in zip(searched(pairs), searched(entry.divergences), strict=True)]
        stated[kernels] = (*figures, same)
    (mean, spread, most, same_of_first), (other_mean, other_spread, other_most, same_of_last) = stated.values()
    text = words_of(RESULTS.parent / "proof.md")
    assert (
        f"{mean} larger on average than the entry's, with a standard deviation of {spread} and {most} at most" in text
    )
    assert f"bring other kernels: {other_mean} larger, {other_spread} and {other_most}. Of the ten searches" in text
    assert (
        f"find the policies of the entry's own pairs in {sum(same_of_last)}, those of the contiguous ones in " in text
    )
    assert f"contiguous ones in {sum(same_of_first)}, all at 1.5G and 1.3G." in text
    assert {bitops for (bitops, _), same in zip(budgets, same_of_first, strict=True) if same} == {"1.5G", "1.3G"}


def test_the_proof_says_what_whole_columns_gave_once_more_on_other_cpus():
    proof, tables = proof_of(RESULTS.parent)
    [table] = [table for table in tables if table[0].startswith("| column | AVX-512 |")]
    text, rows, others = words_of(RESULTS.parent / "proof.md"), [], []
    columns = read_json(RESULTS.parent / "joint_again.json")["finetuned"]
    for column in columns:
        budget, with_avx512 = column["comparison"][0]["budget"], "with AVX-512" in column.get("hardware", "")
        again = {row["contender"]: row for row in column["comparison"]}
        kept = read_json(RESULTS.parent / f"finetuned/seed{column['seed']}/comparison.json")["comparison"]
        pairs = {row["contender"]: (row, again[row["contender"]]) for row in kept if row["budget"] == budget}
        assert len(pairs) == (20 if column["seed"] == 0 else 15)  # seed 0 has random policies
        assert all(one["policy_sha256"] == other["policy_sha256"] for one, other in pairs.values())
        # Those of such a CPU have the same figures to the last digit.
        of_this_seed = proof["finetuned"].get(str(column["seed"]), [])
        of_such_a_cpu = [row for row in of_this_seed if with_avx512 and row["budget"] == budget]
        of_such_a_cpu += [one for one, _ in pairs.values() if "cpu" in one and not with_avx512]
        assert all(row["finetuned"] == again[row["contender"]]["finetuned"] for row in of_such_a_cpu)
        assert not of_such_a_cpu or re.search(rf" {len(of_such_a_cpu)} \D+ at {budget}[.,]", text)
        # Contenders of one policy are one fine-tuning.
        of_xeon = {one["policy_sha256"]: (one, other) for one, other in pairs.values() if "cpu" not in one}
        label = budget if column["seed"] == 0 else f"{budget}, seed {column['seed']}"
        cells = [label, "with" if with_avx512 else "without", str(len(of_xeon))]
        for key, form in (("kl", ".4f"), ("top1", ".2f")):
            less = torch.tensor([other["finetuned"][key] - one["finetuned"][key] for one, other in of_xeon.values()])
            cells += [f"{less.mean():+{form}}", f"{less.std():{form}}", f"{less.abs().max():{form}}"]
        verdicts = {
            name: [row["paired"]["finetuned"] for row in pair] for name, pair in pairs.items() if "paired" in pair[1]
        }
        others += [
            f"`{name}` is {other['verdict']} at {label}, by {abs(other['kl']):.4f} ± {other['kl_standard_error']:.4f}"
            for name, (one, other) in verdicts.items()
            if one["verdict"] != other["verdict"]
        ]
        same = sum(one["verdict"] == other["verdict"] for one, other in verdicts.values())
        rows.append(f"| {' | '.join([*cells, f'{same} of {len(verdicts)}'])} |")
    assert table[2:] == rows
    assert f"Other verdicts: {'; '.join(others)}." in text


def test_the_proof_says_what_the_rivals_of_the_default_gave_once_more_with_other_seeds():
    differences: dict[str, list[dict]] = {"now": [], "then": []}
    for column in read_json(RESULTS.parent / "joint_again.json")["other_seeds"]:
        kept = read_json(RESULTS.parent / f"finetuned/seed{column['seed']}/comparison.json")
        for when, rows in (("now", column["comparison"]), ("then", kept["comparison"])):
            [first, second] = rows
            assert (first["contender"], second["contender"], first["budget"]) == (
                "coupled:near",
                "kl-float:equal",
                "1.5G",
            )
            assert second["paired"]["finetuned"]["verdict"] == "ahead"
            differences[when].append(second["paired"]["finetuned"])
    (third, fourth), (third_then, fourth_then) = (
        [f"{-difference['kl']:.4f} ± {difference['kl_standard_error']:.4f}" for difference in of_one]
        for of_one in differences.values()
    )
    assert (
        f"there `kl-float:equal` is ahead of `coupled:near` at 1.5G by {third} and {fourth}, where it was by "
        f"{third_then} and {fourth_then}."
    ) in words_of(RESULTS.parent / "proof.md")


def ranks_of(points: list[dict]) -> tuple[float, ...]:
    """Return Spearman's rank correlation of the objective of policies with their KL, and with their top-1."""
    objectives, *figures = ([point[key] for point in points] for key in ("objective", "kl", "top1"))
    return tuple(spearmanr(objectives, of_one).statistic for of_one in figures)


def test_the_proof_says_how_well_its_random_policies_are_ranked_on_another_cpu():
    ranks = read_json(RESULTS.parent / "joint_again.json")["ranks"]
    [again] = ranks["correlation"].values()
    [before] = proof_of(RESULTS.parent)[0]["ranks"].values()
    points = {point["policy_sha256"]: point for point in before["points"]}
    assert len(again["points"]) == len(points) == 60
    same = [points[point["policy_sha256"]] for point in again["points"]]
    kl = [abs(one["kl"] - other["kl"]) for one, other in zip(again["points"], same, strict=True)]
    (kl_now, top1_now), (kl_then, top1_then) = map(ranks_of, (again["points"], same))
    stated = (
        f"`--correlated {len(same)}`): {kl_now:.2f} with KL and {top1_now:.2f} with top-1 for the learned steps, "
        f"{kl_then:.2f} and {top1_then:.2f} before. By KL the objectives stand in the same order. The KL of a policy "
        f"differs by {max(kl):.4f} nats at most."
    )
    by_kl = [
        sorted(before["criteria"], key=lambda name, of=measured["criteria"]: -of[name]["kl"])
        for measured in (again, before)
    ]
    assert by_kl[0] == by_kl[1]
    assert stated in words_of(RESULTS.parent / "proof.md")


def test_the_seeds_of_the_proof_are_those_of_the_images_that_are_kept():
    _, (_, _, _, of_seeds, *_) = proof_of(RESULTS.parent)
    folders = [RESULTS.parent / f"finetuned/seed{seed}" for seed in range(3)]
    assert of_seeds[2:] == rows_of_seeds(folders)


def test_the_criterion_that_is_ahead_of_the_default_is_over_five_seeds():
    folders = [RESULTS.parent / f"finetuned/seed{seed}" for seed in range(5)]
    (row,) = rows_of_seeds(folders, "coupled:near")
    assert row in rows_of(RESULTS.parent / "proof.md")
    kl, _, top1, *_, verdict = row.removeprefix("| 1.5G | kl-float:equal | -").removesuffix(" |").split(" | ")
    stated = f"by {kl} nats over five seeds, its top-1 {top1.removeprefix('-')} points lower"
    for page in (RESULTS, RESULTS.parent / "proof.md"):
        text = words_of(page)
        assert stated in text or stated.replace(" seeds", " seeds (0.0033 ± 0.0018, level, with seed 0 alone)") in text
    assert verdict == "ahead"


def test_what_stands_beside_the_search_of_the_entry_is_of_the_images_that_are_kept():
    _, (*_, table, of_seeds, _, _) = proof_of(RESULTS.parent)
    folder = RESULTS.parent / "finetuned/seed0"
    assert of_seeds[2:] == rows_of_seeds([folder.with_name(f"seed{seed}") for seed in range(3)], "coupled:near")
    kept = {(row["budget"], row["contender"]): row for row in read_json(folder / "comparison.json")["comparison"]}
    budgets = table[0].strip("| ").split(" | ")[1:]
    assert table[2] == (
        "| coupled:near, the reference | "
        + " | ".join(f"{kept[budget, 'coupled:near']['finetuned']['kl']:.4f}" for budget in budgets)
        + " |"
    )
    measured = {policy_of(row): row.strip("| ").split(" | ") for row in rows_of_seeds([folder], "coupled:near")}
    for row in table[3:]:
        contender, *cells = row.strip("| ").split(" | ")
        name = "learned" if contender == "learned steps" else contender
        found = [measured[f"| {budget}", name] for budget in budgets]
        assert cells == [f"{kl} {verdict}" for _, _, kl, _, _, _, verdict in found], contender
    shown = {row.strip("| ").split(" | ")[0].replace("learned steps", "learned") for row in table[3:]}
    assert shown == {name for _, name in kept if not name.startswith("random")} - {"coupled:near"}


def test_the_commands_of_the_proof_name_the_policies_whose_images_are_kept():
    """`compare.py --importance learned --random 5 --criteria coupled coupled:near`, whatever the entry searches by."""
    entry = find_entry("resnet18")
    measured = read_json(RESULTS.parent / "finetuned/seed0/comparison.json")["comparison"]
    criteria = {
        name: indicators_by(name, entry, lambda one: cost_table(one, entry, [])) for name in ("coupled", "coupled:near")
    }
    named = {"learned", *criteria, "uniform filled", *(f"random, seed {seed}" for seed in range(5)), "reversed"}
    for budget in {row["budget"] for row in measured}:
        learned = entry.indicators.using("learned")
        found = contenders(learned, budget, 5, lambda policy: 0.0, criteria, only=named)
        kept = {row["contender"]: row["policy_sha256"] for row in measured if row["budget"] == budget}
        for name in named & set(kept):
            assert found[name].digest() == kept[name], (budget, name)


def test_every_policy_of_the_proof_is_kept_as_a_file_that_other_commands_take():
    folder, entry = RESULTS.parent / "policies", find_entry("resnet18")
    learned = entry.indicators.using("learned")
    rows = read_json(RESULTS.parent / "proof.json")["joint"]
    for row in rows:
        plan = plan_for(entry, policy=folder / f"{row['policy_sha256'][:16]}.json")
        assert plan.policy.digest() == row["policy_sha256"]
        assert (plan.bitops, Plan.of_policy(learned, plan.policy).objective) == (row["bitops"], row["objective"])
    assert {path.stem for path in folder.iterdir()} == {row["policy_sha256"][:16] for row in rows}


def test_what_the_learned_steps_had_is_kept_and_shown_beside_what_ships():
    before, entry = read_json(RESULTS.with_name("learned_steps.json")), find_entry("resnet18")
    ships, front = tables_of(RESULTS)[:2]
    for published in entry.published:
        [row] = [row for row in ships if row.startswith(f"| fine-tuned for {published.name} |")]
        assert f"| {published.top1 - before['policies'][published.name]['top1']:+.2f} |" in row
        assert published.kl < before["policies"][published.name]["kl"]
    text = " ".join(RESULTS.read_text().split())
    now = {published.name: published.kl for published in entry.published}
    for kl in (now, {name: figures["kl"] for name, figures in before["policies"].items()}):
        three, last = ", ".join(f"{kl[name]:.4f}" for name in ("3G", "w4a4", "w3a3")), f"{kl['1.5G']:.4f}"
        assert f"{three} and {last}" in text
    of_learned = [record for record in before["joint"] if not record["calibration_images"]]
    for row, then in zip(front[3:], sorted(of_learned, key=lambda record: -record["bitops"]), strict=True):
        assert row.split(" | ")[3] == f"{then['kl']:.4f}"


def policy_of(row: str) -> tuple[str, ...]:
    """Return budget and contender of a row of a table."""
    return tuple(row.split(" | ")[:2])


def test_the_fine_tunings_of_the_proof_are_those_whose_images_are_kept():
    _, (_, divergences, top1s, *_) = proof_of(RESULTS.parent)
    measured = read_json(RESULTS.parent / "finetuned/seed0/comparison.json")["comparison"]
    kept = {(row["budget"], row["contender"]): row for row in measured}
    shown = 0
    for table, text, reference in (
        (divergences, kl_text, lambda of: f"{of['kl']:.4f}"),
        (top1s, top1_text, lambda of: f"{of['top1']:.2f} %"),
    ):
        budgets = table[0].strip("| ").split(" | ")[1:]
        assert table[2].endswith(f"| {' | '.join(reference(kept[of, 'learned']['finetuned']) for of in budgets)} |")
        for row in table[3:]:
            contender, *cells = row.strip("| ").split(" | ")
            for budget, cell in zip(budgets, cells, strict=True):
                assert cell == text(kept[budget, contender]["paired"]["finetuned"]), (budget, contender)
                shown += 1
    assert shown == 2 * (len(kept) - len(budgets))


@pytest.mark.parametrize(
    ("table", "figures", "policies"),
    [(0, "importance.json", 29), (1, "importance_10000.json", 5)],
    ids=["1000", "10000"],
)
def test_the_tables_of_what_chooses_best_show_what_was_measured(table, figures, policies):
    heads, *rows = [row.split(" | ") for row in tables_of(RESULTS.with_name("importance.md"))[table]]
    measured = [policy for policy in read_json(RESULTS.with_name(figures))["comparison"] if "paired" in policy]
    assert len(measured) == policies * 5
    for policy in measured:
        [row] = [row for row in rows if row[0].removeprefix("| ").split(": ")[0] == policy["contender"]]
        column = [head.strip(" |") for head in heads].index(policy["budget"])
        assert row[column].strip(" |") == kl_text(policy["paired"])


def test_the_rank_correlations_of_the_proof_are_those_that_were_measured():
    proof, (*_, ranks) = proof_of(RESULTS.parent)
    [measured] = proof["ranks"].values()
    assert len(measured["points"]) == 60
    for name, of_objective in {"learned": measured, **measured["criteria"]}.items():
        [row] = [row for row in ranks if row.startswith(f"| {name} | ")]
        assert row == f"| {name} | {of_objective['kl']:+.2f} | {of_objective['top1']:+.2f} |"


def test_the_terms_between_layers_add_what_was_measured():
    measured = read_json(RESULTS.with_name("neighbour_terms.json"))
    rows = [row.split(" | ") for row in tables_of(RESULTS.with_name("importance.md"))[2]]
    names = {"kl-joint@3": "| kl-joint@3", "learned+kl-joint@3": "| learned and kl-joint@3, each by its spread"}
    for objective, of_figures in measured["objectives"].items():
        for key, shares in of_figures.items():
            [row] = [row for row in rows if row[:2] == [names[objective], {"kl": "KL", "top1": "top-1"}[key]]]
            expected = [f"{shares['none']['Spearman']:+.2f}"]
            for share in ("half", "all"):
                of_share = shares[share]
                expected += [
                    f"{of_share['Spearman']:+.2f}",
                    f"{of_share['added']:+.2f} ± {of_share['standard error']:.2f}",
                ]
            assert " | ".join(row[2:]) == f"{' | '.join(expected)} |"
    # The figures of the policies give the same ranks.
    [ranks] = read_json(RESULTS.with_name("proof.json"))["ranks"].values()
    with_terms = np.array(measured["alone"]) + np.array(measured["terms"])
    found = spearmanr(with_terms, [point["kl"] for point in ranks["points"]]).statistic
    assert round(found, 4) == measured["objectives"]["kl-joint@3"]["kl"]["all"]["Spearman"]


def test_the_rank_correlations_in_the_results_are_those_that_were_measured():
    six_bits = RESULTS.parent / "six_bits"
    text = (six_bits / "README.md").read_text()
    for correlation in read_json(six_bits / "comparison.json")["correlation"].values():
        assert f"{correlation['kl']:.2f}" in text
        assert f"{correlation['top1']:.2f}" in text


def test_the_first_page_shows_the_policy_of_a_search_beside_both_uniform_ones_as_measured():
    measured = read_json(RESULTS.parent / "finetuned/seed0/comparison.json")["comparison"]
    top1 = {(policy["budget"], policy["contender"]): policy["finetuned"]["top1"] for policy in measured}
    digests = {(policy["budget"], policy["contender"]): policy["policy_sha256"] for policy in measured}
    for budget in ("w4a4", "w3a3", "1.5G", "1.3G"):
        assert digests[budget, "coupled:near"] == limpq_hub.search("resnet18", bitops=budget).policy.digest()
        row = next(row for row in rows_of(FIRST_PAGE) if row.startswith(f"| {budget} |"))
        figures = [top1[budget, name] for name in ("coupled:near", "uniform filled", "uniform, best split")]
        assert row.endswith(f"| {' | '.join(f'{figure:.2f}' for figure in figures)} |"), budget


def test_the_smallest_budget_that_an_error_states_works():
    with pytest.raises(InfeasibleBudgetError) as caught:
        limpq_hub.search("resnet18", bitops="1G")
    smallest = caught.value.minimum
    assert limpq_hub.search("resnet18", bitops=smallest).bitops == smallest
    assert limpq_hub.search("resnet18", bitops="1.18G").bitops >= smallest
    with pytest.raises(InfeasibleBudgetError):
        limpq_hub.search("resnet18", bitops=smallest - 1)


def test_the_bundled_files_take_at_most_60_megabytes():
    files = [file for file in (BUNDLED / "resnet18.tiny_imagenet").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 60_000_000


def test_the_bundled_class_names_are_those_of_tiny_imagenet():
    classes = find_entry("resnet18").classes
    assert len(classes) == 200
    assert [record["id"] for record in classes] == sorted(record["id"] for record in classes)
    assert {"id": "n02129165", "name": "lion, king of beasts, Panthera leo"} in classes


def test_no_record_of_how_it_came_about_names_a_folder():
    records = [read_json(path) for path in BUNDLED.rglob("*.json")]
    assert any("pretrain.py" in str(record) for record in records)
    for record in records:
        assert without_paths(record) == record
