"""A run goes on with the pictures and the weights that it began with, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_run import NETWORK, RUN

from limpq_hub.errors import TrainingError
from limpq_hub.train import finetune, indicators, pretrain
from limpq_hub.train.loop.state import TrainingState


def swap_classes(root: Path) -> None:
    (root / "train/class0").rename(root / "moved")
    (root / "train/class1").rename(root / "train/class0")
    (root / "moved").rename(root / "train/class1")


def add_pictures(root: Path) -> None:
    for number in range(3):
        shutil.copy(root / "train/class2/1.png", root / f"train/class2/{100 + number}.png")


def remove_a_picture(root: Path) -> None:
    (root / "train/class3/5.png").unlink()


def rename_a_picture(root: Path) -> None:
    (root / "train/class3/5.png").rename(root / "train/class3/55.png")


def change_a_picture(root: Path) -> None:
    shutil.copy(root / "train/class0/0.png", root / "train/class3/5.png")


def add_a_class(root: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(root / split / "class3", root / split / "emu")


def rename_a_class(root: Path) -> None:
    for split in ("train", "val"):
        (root / split / "class3").rename(root / split / "zebra")


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "classes that changed places": (swap_classes, "with other pictures in class class0, class1 (16 then, 16 now)"),
    "more pictures": (add_pictures, "with other pictures in class class2 (8 then, 11 now)"),
    "fewer pictures": (remove_a_picture, "with other pictures in class class3 (8 then, 7 now)"),
    "another name": (rename_a_picture, "with other pictures in class class3 (8 then, 8 now)"),
    "another picture": (change_a_picture, "with other pictures in class class3 (8 then, 8 now)"),
    "a class more": (add_a_class, "with class emu besides"),
    "a class of another name": (rename_a_class, "without class class3 and with class zebra besides"),
}


def die_after_a_save(monkeypatch: pytest.MonkeyPatch, main: Callable[[list[str]], None], options: list[str]) -> None:
    save = TrainingState.save

    def save_and_die(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TrainingState, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            main(options)


@pytest.fixture
def copied(data, tmp_path) -> Path:
    return shutil.copytree(data, tmp_path / "data")


@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES.keys())
def test_a_run_is_not_resumed_on_other_data(copied, tmp_path, monkeypatch, change, words):
    options = [*NETWORK, *RUN, "--data", str(copied), "--save-interval", "1", "--output", f"{tmp_path}/out"]
    die_after_a_save(monkeypatch, pretrain.main, options)
    options_file = (tmp_path / "out/options.json").read_bytes()
    change(copied)
    with pytest.raises(TrainingError) as refused:
        pretrain.main([*options, "--resume"])
    assert str(refused.value) == (
        f"--resume on other data: {copied}/train is {words}; bring back what the run began with, or choose another "
        "--output"
    )
    assert (tmp_path / "out/options.json").read_bytes() == options_file


def test_a_run_whose_data_was_not_noted_is_resumed(copied, tmp_path, monkeypatch):
    options = [*NETWORK, *RUN, "--data", str(copied), "--save-interval", "1", "--output", f"{tmp_path}/out"]
    die_after_a_save(monkeypatch, pretrain.main, [*options, "--max-steps", "2"])
    path = tmp_path / "out/options.json"
    first = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in first.items() if key != "training_data"}))
    pretrain.main([*options, "--max-steps", "2", "--resume"])
    assert json.loads(path.read_text())["training_data"] == first["training_data"]


def test_a_run_without_labels_is_not_resumed_on_other_pictures(runs, copied, tmp_path, monkeypatch):
    weights = ["--weights", f"{runs}/float/model.safetensors", "--unlabelled", str(copied / "train")]
    options = [*NETWORK, *RUN, *weights, "--save-interval", "1", "--output", f"{tmp_path}/out"]
    die_after_a_save(monkeypatch, indicators.main, options)
    add_pictures(copied)
    with pytest.raises(
        TrainingError, match=r"train is with other pictures \(30 then, 33 now\); bring back what the run"
    ):
        indicators.main([*options, "--resume"])


def test_a_run_is_not_resumed_with_other_weights_in_the_same_file(runs, data, tmp_path, monkeypatch):
    weights = shutil.copy(runs / "float/model.safetensors", tmp_path / "float.safetensors")
    entry = ["--model", f"local-dir:{runs}/joint", "--bitops", "w4a4", *RUN, "--data", str(data), "--distill", "0.5"]
    options = [*entry, "--weights", str(weights), "--save-interval", "1", "--output", f"{tmp_path}/out"]
    die_after_a_save(monkeypatch, finetune.main, options)
    content = bytearray(Path(weights).read_bytes())
    content[-1] ^= 1
    Path(weights).write_bytes(content)
    with pytest.raises(TrainingError, match="--resume with another weights_sha256; give the options of the first run"):
        finetune.main([*options, "--resume"])


def test_a_batch_of_one_image_is_refused_where_a_normalization_would_see_one_value(data, tmp_path):
    small = ["--model", "test_resnet", "--input-size", "16", "--data", str(data), "--workers", "0", "--max-steps", "1"]
    with pytest.raises(TrainingError) as refused:
        pretrain.main([*small, "--batch-size", "1", "--output", f"{tmp_path}/out"])
    assert str(refused.value).startswith("--batch-size 1 leaves batch normalization ")
    assert str(refused.value).endswith(
        " one value per channel at 16 pixels, of which there is no variance; use --batch-size 2 or more, or a larger "
        "--input-size"
    )
    large = [*small, "--input-size", "64", "--batch-size", "1"]
    pretrain.main([*large, "--output", f"{tmp_path}/out"])
