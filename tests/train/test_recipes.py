"""Every recipe starts with one command: two steps of each of its sections at 224 pixels, on generated pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import yaml
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import save_file

from limpq_hub.plan.jsonfile import read_json
from limpq_hub.train import finetune, indicators, pretrain
from limpq_hub.train.recipe import FOLDER, names
from limpq_hub.zoo.catalog import find_entry

CLASSES = 2
SMALL = ["--batch-size", "2", "--max-steps", "2", "--workers", "0", "--threads", "1", "--input-size", "224"]
SHORT = ["--calibrate-images", "2"]
PAPER = {"paper-resnet18": "resnet18", "paper-resnet50": "resnet50", "paper-mobilenetv1": "mobilenetv1_100"}


@pytest.fixture(scope="module")
def large_pictures(tmp_path_factory) -> Path:
    root, generator = tmp_path_factory.mktemp("large"), np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 1)):
        for label in range(CLASSES):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (256, 240, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.jpg")
    return root


def float_weights(architecture: str, path: Path) -> str:
    save_file(timm.create_model(architecture, num_classes=CLASSES).state_dict(), path)
    return str(path)


def run_alone(main: Callable[[list[str]], None], options: list[str]) -> None:
    """Run a script as if in a process of its own, in which sections may differ in precision."""
    AcceleratorState._reset_state()
    try:
        main(options)
    finally:
        AcceleratorState._reset_state()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", names())
def test_a_recipe_trains_indicators_and_fine_tunes_a_policy(recipe, large_pictures, tmp_path):
    sections = yaml.safe_load((FOLDER / f"{recipe}.yaml").read_text())
    data = ["--recipe", recipe, "--data", str(large_pictures), *SMALL]
    model = sections["indicators"].get("model", "test_efficientnet")
    weights = ["--weights", float_weights(model, tmp_path / "float.safetensors")]
    network = ["--model", model, *weights, "--anchor-gap", "99"]
    # The pairs of bits of a large network take minutes.
    pairs = ["--measure-images", "0"] if "model" in sections["indicators"] else []
    run_alone(indicators.main, [*data, *SHORT, *network, *pairs, "--output", str(tmp_path / "joint")])
    entry = find_entry(f"local-dir:{tmp_path}/joint")
    assert entry.indicators.candidates == tuple(sections["indicators"].get("candidates", (6, 5, 4, 3, 2)))
    assert len((tmp_path / "joint/metrics.jsonl").read_text().splitlines()) == 2
    if "pretrain" in sections:
        run_alone(pretrain.main, [*data, "--output", str(tmp_path / "float")])
        assert read_json(tmp_path / "float/metrics.json")["images"] == CLASSES
    if "finetune" in sections:
        tune = [option for option in data if option not in ("--input-size", "224")]
        tune += ["--model", entry.name, "--bitops", "w4a4"]
        run_alone(finetune.main, [*tune, *SHORT, *weights, "--output", str(tmp_path / "w4a4")])
        metrics = read_json(tmp_path / "w4a4/metrics.json")
        assert metrics["images"] == CLASSES


@pytest.mark.parametrize(("recipe", "architecture"), PAPER.items())
def test_the_recipes_of_the_paper_are_as_published(recipe, architecture, tmp_path):
    required = ["--data", "IMAGENET", "--output", str(tmp_path)]
    joint = indicators.parse_options(["--recipe", recipe, *required])
    passes, schedule = joint.joint, joint.training.schedule
    assert joint.network.model.split(".")[0] == architecture
    assert (joint.network.input_size, passes.candidates, passes.mixtures) == (224, [6, 5, 4, 3, 2], 1)
    assert (passes.uniform, passes.in_place_distill, joint.loss.distill) == ("all", 0, 0)
    assert (schedule.lr, schedule.weight_decay, schedule.momentum, joint.loss.smoothing) == (0.01, 2.5e-5, 0.9, 0.1)
    assert (schedule.warmup_epochs, schedule.clip_value, joint.network.weights) == (0, 1, "pretrained")
    published = {"paper-resnet18": (5, 256, 3), "paper-resnet50": (3, 64, 2), "paper-mobilenetv1": (5, 256, 1)}
    assert (schedule.epochs, joint.data.batch_size, joint.export.alpha) == published[recipe]
    tuning = finetune.parse_options(["--recipe", recipe, *required, "--model", "local-dir:out/joint"])
    schedule = tuning.training.schedule
    assert (tuning.weights, tuning.loss.teacher) == (None, None)  # the float network that the entry came from
    assert (tuning.start_from, schedule.epochs, tuning.data.batch_size, schedule.warmup_epochs) == ("float", 95, 128, 5)
    assert (schedule.lr, schedule.weight_decay) == (0.04, 2.5e-5)
    assert (tuning.loss.smoothing, tuning.calibrate_images) == (0.1, 6000)
