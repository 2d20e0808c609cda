"""Trainings on pictures without labels, end to end: no label is read, and nothing else is other than with labels."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_run import CLASSES, NETWORK, RUN

import limpq_hub
from limpq_hub.cli import main as limpq
from limpq_hub.train import compare, finetune, front, indicators, pretrain, publish, validate
from limpq_hub.zoo.card import render_card
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.loading import NotFineTunedWarning

STEPS = ["--max-steps", "3", "--calibrate-images", "8"]
JOINT = [*NETWORK, *RUN, *STEPS, "--alpha", "1", "--anchor-gap", "99"]


@pytest.fixture(scope="session")
def pile(data, tmp_path_factory) -> Path:
    """The training pictures in one nested pile, under names that tell no class."""
    root = tmp_path_factory.mktemp("unlabelled") / "pile"
    for number, path in enumerate(sorted(data.glob("train/*/*.png"))):
        target = root / ("" if number % 2 else "deep") / f"{number * 7 % 32}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return root


@pytest.fixture(scope="session")
def weights(runs) -> list[str]:
    return ["--weights", f"{runs}/float/model.safetensors"]


@pytest.fixture(scope="session")
def tuned(pile, weights, tmp_path_factory) -> Path:
    """An entry and a policy of it, from pictures without labels alone."""
    root = tmp_path_factory.mktemp("tuned")
    indicators.main([*JOINT, *weights, "--unlabelled", str(pile), "--output", f"{root}/joint"])
    entry = ["--model", f"local-dir:{root}/joint"]
    pictures = ["--unlabelled", str(pile), *RUN]
    finetune.main([*entry, "--bitops", "w4a4", *pictures, *STEPS, "--output", f"{root}/w4a4"])
    measure = ["--calibrate-images", "8", "--output", f"{root}/front.json"]
    front.main([*entry, "--bitops", "w3a3", "w4a4", *pictures, *measure])
    made = ["--joint", f"{root}/joint", "--checkpoint", f"w4a4={root}/w4a4", "--front", f"{root}/front.json"]
    publish.main([*made, "--output", f"{root}/entry"])
    return root


def test_without_labels_agreement_and_kl_are_measured_and_no_top_1(tuned, pile, capsys):
    metrics = json.loads((tuned / "w4a4/metrics.json").read_text())
    assert "top1" not in metrics
    assert metrics["images"] == 2
    assert 0 <= metrics["agreement"] <= 100
    assert metrics["kl"] > 0
    validate.main(["--model", f"local-dir:{tuned}/entry", "--bitops", "w4a4", "--unlabelled", str(pile), *RUN])
    printed = json.loads(capsys.readouterr().out)
    assert {key: printed[key] for key in metrics} == metrics
    assert (printed["data"]["name"], printed["data"]["split"]) == ("pile", "held-out")


def test_an_entry_without_top_1_is_loaded_listed_and_described(tuned, capsys):
    with pytest.warns(NotFineTunedWarning, match="accuracy not measured.*--unlabelled FOLDER --output"):
        assert limpq_hub.load(f"local-dir:{tuned}/joint", bitops="w4a4").limpq.top1 is None
    assert limpq_hub.load(f"local-dir:{tuned}/entry", bitops="w4a4").limpq.weights == "finetuned"
    entry = find_entry(f"local-dir:{tuned}/entry")
    (published,), metrics = entry.published, json.loads((tuned / "w4a4/metrics.json").read_text())
    assert (published.top1, published.agreement, published.kl) == (None, metrics["agreement"], metrics["kl"])
    assert [len(entry.joint_records(calibrated=calibrated)) for calibrated in (False, True)] == [2, 2]
    assert entry.front(calibrated=False) == []
    cell = f"agrees with float on {metrics['agreement']:.2f} %, KL {metrics['kl']:.4f}"
    assert f"| {cell} | pile, 2 held-out images, seed 0 |" in render_card(entry, "you/x")
    assert limpq(["info", f"local-dir:{tuned}/entry"]) == 0
    assert f"KL {metrics['kl']:.4f}" in " ".join(capsys.readouterr().out.split())


def test_statistics_along_another_search_are_to_be_measured_on_such_pictures(tuned, tmp_path, capsys):
    publish.main(["--joint", f"{tuned}/joint", "--importance", "coupled", "--output", f"{tmp_path}/entry"])
    command = f"limpq_hub.train.anchors --model local-dir:{tmp_path}/entry --unlabelled FOLDER --output OUTPUT\n"
    assert command in capsys.readouterr().out


def test_a_comparison_without_labels_is_one_of_agreement(tuned, pile, tmp_path, capsys):
    few = ["--steps", "0", "--random", "1", "--correlated", "2", "--calibrate-images", "8", "--bitops", "w3a3"]
    compare.main(
        ["--model", f"local-dir:{tuned}/entry", "--unlabelled", str(pile), *RUN, *few, "--output", f"{tmp_path}/out"]
    )
    said = capsys.readouterr().out
    assert "| joint: agreement with float, % | KL, nats |" in said
    assert "over all budgets: Spearman of the objective with KL" in said
    result = json.loads((tmp_path / "out/comparison.json").read_text())
    assert all("agreement" in row["joint"] and "top1" not in row["joint"] for row in result["comparison"])
    assert (tmp_path / "out/comparison.png").stat().st_size > 0


def test_a_command_of_each_kind_is_told_with_the_pictures(tuned, pile, weights, tmp_path, capsys):
    indicators.main([*JOINT, *weights, "--unlabelled", str(pile), "--output", f"{tmp_path}/joint"])
    said = capsys.readouterr().out
    assert "30 pictures without labels to learn from, 2 more are held out to measure by" in said
    assert re.search(r"^float agreement with the float network 100.00 %, KL -?0\.000\d$", said, re.MULTILINE)
    assert re.search(
        r"^joint weights, all layers at \d bits: agreement [0-9.]+ %, KL to float [0-9.]+$", said, re.MULTILINE
    )
    assert f"--unlabelled {pile} {shlex.join(RUN)} --output {tmp_path}/joint-w4a4" in said


@pytest.mark.slow
def test_labels_that_are_there_change_nothing_but_the_figures(data, weights, tmp_path):
    named = ["--unlabelled", str(data / "train")]
    shutil.copytree(data / "train", tmp_path / "train")
    for label in range(CLASSES):
        (tmp_path / f"train/class{label}").rename(tmp_path / f"train/x{label}")
    (tmp_path / "val").symlink_to(data / "val")
    common = [*JOINT, *weights, "--distill", "0.75", "--in-place-distill", "0.25"]
    indicators.main([*common, *named, "--data", str(data), "--output", f"{tmp_path}/one"])
    other = ["--unlabelled", str(tmp_path / "train"), "--data", str(data)]
    indicators.main([*common, *other, "--output", f"{tmp_path}/two"])
    one, two = ((tmp_path / name / "supernet.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
    metrics = json.loads((tmp_path / "one/metrics.json").read_text())
    assert metrics["float"]["images"] == 4 * CLASSES
    assert [record["id"] for record in find_entry(f"local-dir:{tmp_path}/one").classes] == [
        f"class{label}" for label in range(CLASSES)
    ]


@pytest.mark.slow
def test_the_loss_of_every_pass_is_the_kl_to_the_float_network(pile, weights, tmp_path):
    common = [*JOINT, *weights, "--unlabelled", str(pile), "--max-steps", "1"]
    indicators.main([*common, "--output", f"{tmp_path}/alone"])
    recipe = tmp_path / "smoothed.yaml"
    recipe.write_text("indicators:\n  smoothing: 0.9\n")
    indicators.main([*common, "--recipe", str(recipe), "--output", f"{tmp_path}/smoothed"])
    alone, smoothed = (
        json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[0])["losses"]
        for name in ("alone", "smoothed")
    )
    assert alone == smoothed
    assert all(loss > 0 for loss in alone)
    shared = ["--distill", "0.5", "--in-place-distill", "0.5"]
    indicators.main([*common, *shared, "--output", f"{tmp_path}/shared"])
    losses = json.loads((tmp_path / "shared/metrics.jsonl").read_text().splitlines()[0])["losses"]
    # The first pass has nothing but the float network to learn from.
    assert losses[0] == pytest.approx(alone[0], rel=1e-6)
    assert losses[1:] != pytest.approx(alone[1:], rel=1e-3)


@pytest.mark.parametrize("command", [pytest.param("indicators", marks=pytest.mark.slow), "finetune"])
def test_a_run_cut_off_continues_to_the_same_bits(command, tuned, pile, weights, tmp_path, cut_after_a_save):
    run = ["--unlabelled", str(pile), "--save-interval", "2", "--max-steps", "5", "--epochs", "3"]
    if command == "indicators":
        main, file, options = indicators.main, "supernet.safetensors", [*JOINT, *weights, *run]
    else:
        main, file = finetune.main, "model.safetensors"
        options = ["--model", f"local-dir:{tuned}/joint", "--bitops", "w4a4", *RUN, "--calibrate-images", "8", *run]
    main([*options, "--output", str(tmp_path / "whole")])
    cut_after_a_save(main, [*options, "--output", str(tmp_path / "cut")])
    main([*options, "--output", str(tmp_path / "cut"), "--resume"])
    whole, cut = (load_file(tmp_path / name / file) for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.slow
def test_two_processes_learn_without_labels_what_one_does(pile, weights, tmp_path):
    script = Path(__file__).parents[2] / "training" / "indicators.py"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    arguments = [*JOINT, *weights, "--unlabelled", str(pile), "--max-steps", "1", "--float64"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    two = [*launch, *arguments, "--batch-size", "4", "--output", f"{tmp_path}/two"]
    done = subprocess.run(two, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("30 pictures without labels to learn from") == 1
    indicators.main([*arguments, "--output", f"{tmp_path}/one"])
    found = [find_entry(f"local-dir:{tmp_path}/{name}") for name in ("one", "two")]
    for steps in ("weight_steps", "activation_steps"):
        one, both = (getattr(entry.indicators, steps) for entry in found)
        for layer, of_layer in one.items():
            # Ties of the max-pooling behind the first layers are broken by rounding.
            assert both[layer] == pytest.approx(of_layer, rel=1e-3 if layer.startswith("conv1") else 1e-9), layer
    one, both = (entry.metrics["float"] for entry in found)
    assert (one["images"], one["agreement"], one["kl"]) == (both["images"], both["agreement"], both["kl"])


def refused(main, *options: str, capsys) -> str:
    with pytest.raises(SystemExit) as left:
        main([*options])
    assert left.value.code == 2
    return capsys.readouterr().err.splitlines()[-1].partition("error: ")[2]


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (["--distill", "0.5"], "--distill 0.5: {nothing} 1, or leave it out"),
        (["--distill", "0"], "--distill 0: {nothing} 1, or leave it out"),
        (
            ["--distill", "0.5", "--in-place-distill", "0.25"],
            "--distill 0.5 and --in-place-distill 0.25: {nothing} 0.75, or leave it out",
        ),
        (
            ["--in-place-distill", "1"],
            "--distill 0 and --in-place-distill 1: {nothing} 1 and a smaller --in-place-distill",
        ),
    ],
)
def test_a_share_of_the_loss_for_labels_that_are_not_there_is_refused(pile, tmp_path, capsys, shares, message):
    options = [*NETWORK, "--unlabelled", str(pile), "--output", str(tmp_path / "out"), *shares]
    nothing = "pictures without labels leave nothing else to learn from; give --distill"
    assert refused(indicators.main, *options, capsys=capsys) == message.format(nothing=nothing)
    assert not (tmp_path / "out").exists()


def test_a_float_network_is_not_trained_without_labels(pile, tmp_path, capsys):
    said = refused(pretrain.main, *NETWORK, "--unlabelled", str(pile), "--output", str(tmp_path / "out"), capsys=capsys)
    assert said == (
        "--unlabelled: a float network is trained on labels, and these pictures have none; give --data alone, or start "
        "from a trained network: accelerate launch -m limpq_hub.train.indicators --unlabelled"
    )


def test_neither_labelled_nor_unlabelled_pictures_are_refused(tmp_path, capsys):
    said = refused(indicators.main, *NETWORK, "--output", str(tmp_path / "out"), capsys=capsys)
    assert said == (
        "the following arguments are required: --data, or --unlabelled where there are pictures without labels"
    )


def test_a_checkpoint_alone_cannot_be_measured_without_labels(tuned, pile):
    with pytest.raises(
        limpq_hub.errors.TrainingError, match="^a checkpoint has no float network to compare with: give"
    ):
        validate.main(["--checkpoint", f"{tuned}/w4a4", "--unlabelled", str(pile), *RUN])
