"""Values of options that cannot be meant: one line and exit code 2 before any work, and those that can are taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from timm.optim import get_optimizer_info
from torch import nn

from limpq_hub.errors import InfeasibleBudgetError, TrainingError
from limpq_hub.quant.convert import to_supernet
from limpq_hub.train import anchors, compare, finetune, front, indicators, pretrain, publish, validate
from limpq_hub.train.method.oscillation import update_oscillating_
from limpq_hub.train.training_options import OPTIMIZERS, WITH_MOMENTUM

COMMANDS = [anchors, compare, finetune, front, indicators, pretrain, publish, validate]
MODEL = ["--model", "test_resnet", "--data", "pictures", "--output", "not-there/out"]
REFUSED = [
    (pretrain, "--workers -1", "argument --workers: '-1' is not a whole number of at least 0 and at most 256"),
    (pretrain, f"--seed {'9' * 20}", f"argument --seed: '{'9' * 20}' is not a whole number of at least 0"),
    (pretrain, "--lr inf", "argument --lr: inf is not above 0 and at most 1e+06"),
    (pretrain, "--lr=--", "argument --lr: expected a value"),
    (pretrain, "--lr fast", "argument --lr: invalid number value: 'fast'"),
    (pretrain, "--lr 1_0", "argument --lr: invalid number value: '1_0'"),
    (pretrain, "--weight-decay nan", "argument --weight-decay: nan is not a number of at least 0 and at most 10"),
    (pretrain, "--smoothing 1", "argument --smoothing: 1 is not at least 0 and below 1"),
    (pretrain, "--weight-decay -1", "argument --weight-decay: -1 is not a number of at least 0 and at most 10"),
    (pretrain, "--warmup-epochs nan", "argument --warmup-epochs: nan is not a number of at least 0"),
    (pretrain, "--warmup-epochs -1", "argument --warmup-epochs: -1 is not a number of at least 0"),
    (pretrain, "--color-jitter -1", "argument --color-jitter: -1 is not a number of at least 0 and at most 10"),
    (pretrain, "--color-jitter 1e6", "argument --color-jitter: 1e6 is not a number of at least 0 and at most 10"),
    (pretrain, "--crop-scale 0 0", "argument --crop-scale: 0.0 0.0: the first must be above 0, and not above the"),
    (pretrain, "--crop-scale 1 0.35", "argument --crop-scale: 1.0 0.35: the first must be above 0"),
    (pretrain, "--momentum 1", "argument --momentum: 1 is not at least 0 and below 1"),
    (pretrain, "--ema 1", "argument --ema: 1 is not at least 0 and below 1"),
    (pretrain, "--ema nan", "argument --ema: nan is not at least 0 and below 1"),
    (pretrain, "--data-fraction 0", "argument --data-fraction: 0 is not above 0 and at most 1"),
    (
        pretrain,
        "--auto-augment nonsense",
        "argument --auto-augment: 'nonsense' is no policy of timm's: write for example rand-m7-mstd0.5, augmix-m3-w3, "
        "original or none",
    ),
    (pretrain, "--auto-augment rand-mmstd0.5", "argument --auto-augment: 'rand-mmstd0.5' is no policy of timm's"),
    (pretrain, "--auto-augment rand-m7-n99", "argument --auto-augment: 'rand-m7-n99' is no policy of timm's"),
    (pretrain, "--auto-augment rand-p2", "argument --auto-augment: 'rand-p2' is no policy of timm's"),
    (
        pretrain,
        "--epochs 3 --warmup-epochs 4",
        "--warmup-epochs 4: in --epochs 3 the learning rate would never be reached",
    ),
    (
        pretrain,
        "--color-jitter 0.4 --auto-augment rand-m7",
        "--color-jitter 0.4: timm leaves it out beside --auto-augment rand-m7; give one of them, or a policy of 3a",
    ),
    (
        pretrain,
        "--float64 --mixed-precision bf16",
        "--float64 and --mixed-precision bf16 contradict each other; give one",
    ),
    (pretrain, "--momentum 0.5 --optimizer adamw", "--momentum: --optimizer adamw has none; leave it out, or use "),
    (
        indicators,
        "--candidates 4 --mixtures 0 --in-place-distill 0.5",
        "--in-place-distill 0.5 compares passes, and a step has one; give --mixtures 1 or more, or leave it out",
    ),
    (
        indicators,
        "--candidates 4 --mixtures 0 --output-distance 1",
        "--output-distance 1 compares passes, and a step has one; give --mixtures 1 or more, or leave it out",
    ),
    (
        indicators,
        "--mixtures 0 --spare-oscillating 0.5",
        "--spare-oscillating 0.5 is of the passes at random bits; give --mixtures 1 or more, or --spare-oscillating 0",
    ),
    (
        indicators,
        "--epochs 5 --spare-oscillating 0.5",
        "--spare-oscillating 0.5 begins after 5 epochs, and --epochs 5 ends before; give --epochs 6 or more, or ",
    ),
    (
        indicators,
        "--freeze-batch-norm --measure-images 1",
        "--measure-images 1: --freeze-batch-norm corrects statistics by two images or more, those of each pair of",
    ),
    (
        indicators,
        "--freeze-batch-norm --calibrate-images 1",
        "--calibrate-images 1: --freeze-batch-norm corrects statistics by two images or more, those of each pair of",
    ),
    (validate, "--bitops 3G --float64", "unrecognized arguments: --float64"),
    (front, "--mixed-precision bf16", "unrecognized arguments: --mixed-precision bf16"),
    (indicators, "--candidates 9", "argument --candidates: '9' is not a whole number of at least 2 and at most 8"),
    (indicators, "--candidates 4 1", "argument --candidates: '1' is not a whole number of at least 2 and at most 8"),
    (indicators, "--candidates 4 3 4", "--candidates: 4 stands twice; give each bit-width once"),
    (
        indicators,
        "--uniform highest --mixtures 0",
        "--uniform highest --mixtures 0 would train 6 bits alone; give --mixtures 1 or more, or --uniform all",
    ),
    (
        indicators,
        "--optimizer sgd --momentum 0",
        "--momentum 0: --optimizer sgd is Nesterov's, which is nothing without momentum; give one above 0, or momentum "
        "as the optimizer, which is plain SGD at 0",
    ),
    (indicators, "--step-optimizer sgd --momentum 0", "--momentum 0: --step-optimizer sgd is Nesterov's, which is "),
    (
        indicators,
        "--calibrate-images 1",
        "--calibrate-images 1: alpha is measured on two images or more; give as many, or --alpha with a number",
    ),
    (indicators, "--mixtures 101", "argument --mixtures: '101' is not a whole number of at least 0 and at most 100"),
    (indicators, "--output-distance -1", "argument --output-distance: -1 is not a number of at least 0"),
    (indicators, "--output-distance nan", "argument --output-distance: nan is not a number of at least 0"),
    (indicators, "--distill 0.7 --in-place-distill 0.7", "--distill 0.7 and --in-place-distill 0.7 are above 1"),
    (
        indicators,
        "--teacher other.safetensors",
        "--teacher is learned from only with --distill; give its share of the loss, or leave both out",
    ),
    (indicators, "--private", "--private is for what --push-to-hub publishes; give both, or neither"),
    (finetune, "--bitops 3G --license mit", "--license is for what --push-to-hub publishes; give both, or neither"),
    (
        finetune,
        "--bitops 3G --calibrate-images 99999999",
        "argument --calibrate-images: '99999999' is not a whole number of at least 1 and at most 65536",
    ),
    (front, "--points 5000", "argument --points: '5000' is not a whole number of at least 1 and at most 1000"),
    (
        validate,
        "--weights policy.json",
        "argument --weights: 'policy.json' is no choice of auto, finetuned, joint, float, which say what to load of "
        "--model; give a policy.json as --policy, the output folder of finetune as --checkpoint, an entry as --model",
    ),
    (validate, "--weights local-dir:out/joint", "argument --weights: 'local-dir:out/joint' is no choice of auto, "),
    (validate, "--weights jiont", "argument --weights: invalid choice: 'jiont' (choose from "),
    (
        front,
        "--output .",
        "argument --output: '.' is a folder, and a file is to be written; name one, for example front.",
    ),
    (
        validate,
        "--output /",
        "argument --output: '/' is a folder, and a file is to be written; name one, for example /",
    ),
    (compare, "--random 5000", "argument --random: '5000' is not a whole number of at least 0 and at most 1000"),
]


@pytest.mark.parametrize(
    ("command", "words", "told"), REFUSED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_value_that_cannot_be_meant_is_refused_in_one_line(capsys, command, words, told):
    with pytest.raises(SystemExit) as ended:
        command.parse_options([*MODEL, *words.split()])
    assert ended.value.code == 2
    assert f"error: {told}" in capsys.readouterr().err.splitlines()[-1]


WITHOUT_EFFECT = [
    (finetune, "--step-start lsq", "--from float", "--from joint has the step sizes that joint training learned; add "),
    (finetune, "--step-start=least-error --from joint", "--from float", "--from joint has the step sizes"),
    (
        finetune,
        "--smoothing 0.2 --distill 1",
        "--distill 0.5",
        "all of the loss is learned from the teacher, and no la",
    ),
    (indicators, "--smoothing 0 --unlabelled pictures", "--unlabelled", "all of the loss is learned from the teacher"),
    (pretrain, "--momentum 0.9 --optimizer adam", "--optimizer sgd", "--optimizer adam has none; leave it out, or use"),
    (indicators, "--train-split t --unlabelled p", "--unlabelled", "the pictures of --unlabelled are trained on in "),
    (compare, "--correlate-every 2 --correlated 0", "--correlated 4", "--correlated 0 leaves the correlations out; "),
    (compare, "--correlate-over range --correlated 0", "--correlated 4", "--correlated 0 leaves the correlations out"),
    (compare, "--criterion-images 8", "--criteria kl-joint", "no --criteria are measured on them; give both, or neit"),
    (front, "--points 3 --bitops 3G", "--bitops", "--bitops says which budgets; give one of the two"),
    (validate, "--data-root .", "--data torch/cifar10", "--data is a folder of its own; leave it out, or give the na"),
]


@pytest.mark.parametrize(("command", "words", "gives_effect", "told"), WITHOUT_EFFECT)
def test_an_option_that_does_nothing_beside_the_others_is_refused_and_taken_with_what_is_advised(
    capsys, tmp_path, monkeypatch, command, words, gives_effect, told
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    model = [*MODEL, *(["--bitops", "3G"] if command in (finetune, validate) else [])]
    with pytest.raises(SystemExit) as ended:
        command.parse_options([*model, *words.split()])
    assert ended.value.code == 2
    flag = words.split()[0].partition("=")[0]
    assert f"error: {flag}: {told}" in capsys.readouterr().err.splitlines()[-1]
    # A flag alone stands for the option without it.
    advised = words.partition(f" {gives_effect} ")[0] if " " not in gives_effect else f"{words} {gives_effect}"
    command.parse_options([*model, *advised.split()])


def test_pictures_without_data_have_no_split_and_no_root(capsys):
    given = ["--model", "resnet18", "--unlabelled", "p", "--output", "out"]
    for flag in ("--val-split", "--data-root"):
        with pytest.raises(SystemExit):
            indicators.parse_options([*given, flag, "x"])
        assert f"error: {flag}: it is of --data; give both, or neither" in capsys.readouterr().err
    indicators.parse_options([*given, "--data", "not-there", "--val-split", "x", "--data-root", "x"])


def test_what_a_recipe_gives_or_a_resumed_run_began_with_may_do_nothing(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("finetune:\n  step-start: lsq\n  momentum: 0.5\n  smoothing: 0.2\n")
    model, typed = [*MODEL, "--bitops", "3G"], ["--optimizer", "adam", "--distill", "1"]
    assert finetune.parse_options([*model, "--recipe", str(recipe), *typed]).step_start == "lsq"
    output = tmp_path / "out"
    resumed = [*model, "--output", str(output), "--step-start", "lsq", "--resume"]
    # As the script for Slurm starts a run, too.
    with pytest.raises(SystemExit):
        finetune.parse_options(resumed)
    output.mkdir()
    (output / "options.json").touch()
    assert finetune.parse_options(resumed).step_start == "lsq"


def test_the_optimizers_that_have_momentum_are_those_that_timm_gives_it_to():
    assert {name for name in OPTIMIZERS if get_optimizer_info(name).has_momentum} == WITH_MOMENTUM


def test_layers_are_spared_from_the_epoch_that_the_shortest_run_with_them_has():
    settings = indicators.parse_options([*MODEL, "--epochs", "6", "--spare-oscillating", "1"])
    layers = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 3)
    supernet = to_supernet(nn.Sequential(*layers), (4, 2), example_input=torch.randn(1, 3, 8, 8))
    chosen = [update_oscillating_({}, supernet, 1.0, epoch) for epoch in range(settings.training.schedule.epochs)]
    assert [bool(layers) for layers in chosen] == [False] * 5 + [True]


POLICIES = [
    "rand",
    "rand-m7-mstd0.5",
    "rand-m9-n3-mstd0.5-inc1",
    "rand-m15-n9-p0.3-mmax20-tweights",
    "rand-m5-n9-t3a",
    "rand-t3aw",
    "augmix-m5-w4-d2",
    "augmix-m3-w3-b1-a1-mstd2",
    "original-mstd0.5",
    "originalr",
    "v0",
    "v0r-mstd101",
    "3a",
]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_that_is_taken_is_one_that_timm_can_apply(policy):
    assert pretrain.parse_options([*MODEL, "--auto-augment", policy]).augmentation.auto_augment == policy
    transform = create_transform(32, is_training=True, auto_augment=policy, color_jitter=None)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for _ in range(20):
        assert transform(Image.fromarray(pixels)).shape == (3, 32, 32)


def test_what_can_be_meant_is_taken():
    words = "--weight-decay 10 --momentum 0 --ema 0.9999 --data-fraction 0.001 --color-jitter 0.4 --epochs 2"
    schedule = pretrain.parse_options([*MODEL, *words.split(), "--warmup-epochs", "2"]).training.schedule
    assert (schedule.weight_decay, schedule.momentum, schedule.ema, schedule.warmup_epochs) == (10, 0, 0.9999, 2)
    joint = indicators.parse_options([*MODEL, "--candidates", "4", "--uniform", "highest", "--mixtures", "0"]).joint
    assert joint.candidates == [4]


@pytest.mark.parametrize("command", [front, compare], ids=["front", "compare"])
def test_budgets_that_no_policy_meets_are_told_before_anything_is_measured(runs, tmp_path, command):
    words = ["--model", f"local-dir:{runs}/joint", "--bitops", "w4a4", "1"]
    with pytest.raises(InfeasibleBudgetError, match=r'^bitops="1" cannot be met: '):
        command.main([*words, "--data", "nowhere", "--output", str(tmp_path / "out")])


def test_a_checkpoint_takes_no_budget(tmp_path):
    words = ["--checkpoint", str(tmp_path), "--bitops", "3G", "--weights", "joint", "--data", "nowhere"]
    with pytest.raises(TrainingError) as refused:
        validate.main(words)
    assert str(refused.value) == "--checkpoint holds its own policy and weights; leave out --bitops, --weights"


def help_of(command, capsys) -> str:
    """Return the help of a command, its lines joined."""
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_tells_no_default_of_an_option_that_has_none(command, capsys):
    shown = help_of(command, capsys)
    assert "(default: " in shown or command is publish
    for nothing in ("None", "[]", "()"):
        assert f"default: {nothing}" not in shown


def test_the_help_of_pretrain_tells_what_it_sets_and_offers_nothing_for_pictures_without_labels(capsys):
    shown = help_of(pretrain, capsys)
    assert "passes over the training images; 60 if not given, 20 with --weights" in shown
    assert "peak learning rate; 0.05 if not given, 0.01 with --weights" in shown
    assert "epochs of linear warm-up; 0.05 of --epochs if not given" in shown
    assert "--unlabelled" not in shown
    assert "--unlabelled FOLDER" in help_of(indicators, capsys)


def test_pretrain_without_pictures_asks_for_pictures_with_labels(capsys):
    with pytest.raises(SystemExit) as refused:
        pretrain.main(["--model", "test_resnet", "--output", "out"])
    assert refused.value.code == 2
    assert capsys.readouterr().err.endswith("error: the following arguments are required: --data\n")


def test_a_required_option_that_was_misspelt_is_told_beside_what_was_typed(capsys):
    with pytest.raises(SystemExit):
        pretrain.parse_options(["--model", "test_resnet", "--data", "pictures", "--ouput", "out"])
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("are required: --output; did you mean --output in place of --ouput?")
