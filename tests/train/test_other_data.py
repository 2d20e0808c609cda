"""A run goes on with the pictures and the weights that it began with, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
from safetensors.torch import load, load_file, save, save_file
from tiny_run import NETWORK, RUN

import limpq_hub
from limpq_hub.errors import DataError, TrainingError
from limpq_hub.train import finetune, indicators, pretrain
from limpq_hub.train.data.epoch_sampler import EpochSampler
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_folder import seal_entry
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.network import NetworkSpec


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


# The validation pictures are looked at first.
OF_BOTH = (add_a_class, rename_a_class)


def flip_the_last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.fixture
def copied(data, tmp_path) -> Path:
    return shutil.copytree(data, tmp_path / "data")


@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES.keys())
def test_a_run_is_not_resumed_on_other_data(copied, tmp_path, cut_after_a_save, change, words):
    options = [*NETWORK, *RUN, "--data", str(copied), "--save-interval", "1", "--output", f"{tmp_path}/out"]
    cut_after_a_save(pretrain.main, options)
    options_file = (tmp_path / "out/options.json").read_bytes()
    change(copied)
    with pytest.raises(TrainingError) as refused:
        pretrain.main([*options, "--resume"])
    where = copied / ("val" if change in OF_BOTH else "train")
    assert str(refused.value) == (
        f"--resume on other data: {where} is {words}; bring back what the run began with, or choose another --output"
    )
    assert (tmp_path / "out/options.json").read_bytes() == options_file


def test_a_run_whose_data_was_not_noted_is_resumed(copied, tmp_path, cut_after_a_save):
    options = [*NETWORK, *RUN, "--data", str(copied), "--save-interval", "1", "--output", f"{tmp_path}/out"]
    cut_after_a_save(pretrain.main, [*options, "--max-steps", "2"])
    path = tmp_path / "out/options.json"
    first = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in first.items() if key != "training_data"}))
    pretrain.main([*options, "--max-steps", "2", "--resume"])
    assert json.loads(path.read_text())["training_data"] == first["training_data"]


def test_a_run_without_labels_is_not_resumed_on_other_pictures(runs, copied, tmp_path, cut_after_a_save):
    weights = ["--weights", f"{runs}/float/model.safetensors", "--unlabelled", str(copied / "train")]
    options = [*NETWORK, *RUN, *weights, "--save-interval", "1", "--output", f"{tmp_path}/out"]
    cut_after_a_save(indicators.main, options)
    add_pictures(copied)
    with pytest.raises(
        TrainingError, match=r"train is with other pictures \(30 then, 33 now\); bring back what the run"
    ):
        indicators.main([*options, "--resume"])


def test_a_run_is_not_resumed_with_other_weights_in_the_same_file(runs, data, tmp_path, cut_after_a_save):
    weights = shutil.copy(runs / "float/model.safetensors", tmp_path / "float.safetensors")
    entry = ["--model", f"local-dir:{runs}/joint", "--bitops", "w4a4", *RUN, "--data", str(data), "--distill", "0.5"]
    options = [*entry, "--weights", str(weights), "--save-interval", "1", "--output", f"{tmp_path}/out"]
    cut_after_a_save(finetune.main, options)
    flip_the_last_bit(Path(weights))
    with pytest.raises(TrainingError, match="--resume with another weights_sha256; give the options of the first run"):
        finetune.main([*options, "--resume"])


def test_a_run_is_not_resumed_with_other_weights_in_the_same_folder(runs, data, tmp_path, cut_after_a_save):
    weights = shutil.copytree(runs / "float", tmp_path / "float")
    options = [*NETWORK, *RUN, "--data", str(data), "--weights", f"local-dir:{weights}", "--save-interval", "1"]
    options += ["--output", f"{tmp_path}/out"]
    cut_after_a_save(indicators.main, options)
    flip_the_last_bit(weights / "model.safetensors")
    with pytest.raises(TrainingError, match="--resume with another weights_sha256; give the options of the first run"):
        indicators.main([*options, "--resume"])


@pytest.mark.parametrize(
    ("main", "option"),
    [(pretrain.main, "weights"), (indicators.main, "teacher"), (finetune.main, "weights"), (finetune.main, "teacher")],
    ids=["pretrain", "indicators", "finetune", "finetune's teacher"],
)
def test_a_run_goes_on_with_the_weights_that_a_repository_held_at_its_start_and_with_no_other(
    runs, data, tmp_path, cut_after_a_save, online, main, option
):
    files = {name: (runs / "float" / name).read_bytes() for name in ("config.json", "model.safetensors")}
    began = online.hub.commit("you/float", files)
    network = ["--model", f"local-dir:{runs}/joint", "--bitops", "w4a4"] if main is finetune.main else NETWORK
    options = [*network, *RUN, "--data", str(data), "--save-interval", "1", "--output", f"{tmp_path}/out"]
    if option == "teacher":
        options += ["--distill", "0.5", "--weights", f"{runs}/float/model.safetensors"]
    cut_after_a_save(main, [*options, f"--{option}", "hf-hub:you/float"])
    renewed = {
        name: value * 2 if name == "fc.weight" else value for name, value in load(files["model.safetensors"]).items()
    }
    online.hub.commit("you/float", {**files, "model.safetensors": save(renewed)})
    with pytest.raises(TrainingError) as refused:
        main([*options, f"--{option}", "hf-hub:you/float", "--resume"])
    assert str(refused.value) == (
        f"--resume with another content of --{option} than the run began with; bring that back, or choose another "
        "--output"
    )
    cut_after_a_save(main, [*options, f"--{option}", f"hf-hub:you/float@{began}", "--resume"])


def test_a_run_is_not_resumed_with_other_weights_of_timm_than_it_began_with(data, tmp_path, cut_after_a_save, online):
    repository = f"timm/test_resnet.{timm.get_pretrained_cfg('test_resnet').tag}"
    options = [*NETWORK, *RUN, "--data", str(data), "--weights", "pretrained", "--save-interval", "1"]
    options += ["--output", f"{tmp_path}/out"]
    theirs = timm.create_model("test_resnet").state_dict()
    online.hub.commit(repository, {"model.safetensors": save(theirs)})
    cut_after_a_save(pretrain.main, options)
    cut_after_a_save(pretrain.main, [*options, "--resume"])
    online.hub.commit(repository, {"model.safetensors": save({**theirs, "bn1.bias": theirs["bn1.bias"] + 1})})
    with pytest.raises(TrainingError, match="^--resume with another content of --weights than the run began with"):
        pretrain.main([*options, "--resume"])


def test_a_run_goes_on_whether_its_input_size_is_typed_or_is_that_of_the_weights_but_with_no_other(
    runs, data, tmp_path, cut_after_a_save
):
    options = ["--model", "test_resnet", *RUN, "--data", str(data), "--weights", f"local-dir:{runs}/float"]
    options += ["--max-steps", "2", "--save-interval", "1", "--output", f"{tmp_path}/out"]
    cut_after_a_save(pretrain.main, [*options, "--input-size", "32"])
    with pytest.raises(
        TrainingError, match="^--resume with another input_size; give the options of the first run: --input-size 32$"
    ):
        pretrain.main([*options, "--input-size", "48", "--resume"])
    pretrain.main([*options, "--resume"])
    assert json.loads((tmp_path / "out/config.json").read_text())["pretrained_cfg"]["input_size"] == [3, 32, 32]


@pytest.mark.parametrize("main", [pretrain.main, indicators.main], ids=["pretrain", "indicators"])
def test_a_run_is_not_resumed_on_other_validation_pictures(runs, copied, tmp_path, cut_after_a_save, main):
    weights = ["--weights", f"{runs}/float/model.safetensors"]
    options = [*NETWORK, *RUN, *weights, "--data", str(copied), "--save-interval", "1", "--output", f"{tmp_path}/out"]
    cut_after_a_save(main, options)
    noted = (tmp_path / "out/inputs.json").read_bytes()
    (copied / "val/class2/1.png").unlink()
    with pytest.raises(TrainingError) as refused:
        main([*options, "--resume"])
    assert str(refused.value) == (
        f"--resume on other data: {copied}/val is with other pictures in class class2 (4 then, 3 now); bring back what "
        "the run began with, or choose another --output"
    )
    assert (tmp_path / "out/inputs.json").read_bytes() == noted


@pytest.mark.parametrize("gone", [True, False], ids=["taken out", "replaced"])
def test_a_trained_run_goes_on_where_a_picture_that_cannot_be_read_was_mended(copied, tmp_path, capsys, gone):
    broken = copied / "val/class2/1.png"
    good = broken.read_bytes()
    broken.write_bytes(good[:60])
    options = [*NETWORK, *RUN, "--data", str(copied), "--max-steps", "2", "--output", f"{tmp_path}/out"]
    with pytest.raises(DataError, match="1 of 16 images cannot be decoded"):
        pretrain.main(options)
    weights = (tmp_path / "out/model.safetensors").read_bytes()
    broken.unlink() if gone else broken.write_bytes(good)
    capsys.readouterr()
    pretrain.main([*options, "--resume"])
    now = 3 if gone else 4
    assert (
        f"note: {copied}/val is with other pictures in class class2 (4 then, {now} now): what is measured from now on "
        "is measured on what is there\n"
    ) in capsys.readouterr().out
    assert (tmp_path / "out/model.safetensors").read_bytes() == weights
    assert json.loads((tmp_path / "out/metrics.json").read_text())["images"] == 12 + now


def test_a_trained_run_is_not_prolonged_on_other_pictures(copied, tmp_path, capsys):
    options = [*NETWORK, *RUN, "--data", str(copied), "--lr-schedule", "constant", "--output", f"{tmp_path}/out"]
    pretrain.main([*options, "--max-steps", "2", "--warmup-epochs", "0"])
    noted = json.loads((tmp_path / "out/options.json").read_text())
    change_a_picture(copied)
    again = [*options, "--warmup-epochs", "0", "--resume"]
    message = r"^--resume on other data: .*/train is with other pictures in class class3 \(8 then, 8 now\); bring back"
    with pytest.raises(TrainingError, match=message):
        pretrain.main([*again, "--max-steps", "4"])
    # Nor does it become a shorter one by being measured again.
    for shorter, typed in ((["--max-steps", "1"], "max_steps"), (["--epochs", "1", "--max-steps", "2"], "epochs")):
        with pytest.raises(TrainingError) as refused:
            pretrain.main([*again, *shorter])
        assert str(refused.value) == (
            f"--resume with another {typed} of a run that is trained, and on other data; end it as it began, with "
            f"--epochs {noted['epochs']} --max-steps 2, or choose another --output"
        )
    # As long as it was it may be measured again, and goes on as what it was.
    pretrain.main([*again, "--max-steps", "2"])
    assert json.loads((tmp_path / "out/options.json").read_text())["training_data"] == noted["training_data"]
    with pytest.raises(TrainingError, match=message):
        pretrain.main([*again, "--max-steps", "4"])


def test_a_trained_run_goes_on_where_a_training_picture_was_taken_out(runs, copied, tmp_path, capsys):
    # Outside the share that is trained on, and read when statistics are measured.
    options = [*NETWORK, *RUN, "--weights", f"{runs}/float/model.safetensors", "--data", str(copied)]
    options += ["--data-fraction", "0.25", "--max-steps", "1", "--alpha", "1", "--measure-images", "0"]
    used = EpochSampler(32, seed=0, fraction=0.25).chosen.tolist()
    unused = next(index for index in range(1, 8) if index not in used)
    broken = sorted((copied / "train/class0").iterdir())[unused]
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(DataError, match="cannot be decoded"):
        indicators.main([*options, "--output", f"{tmp_path}/out"])
    broken.unlink()
    indicators.main([*options, "--output", f"{tmp_path}/out", "--resume"])
    assert f"note: {copied}/train is with other pictures in class class0 (8 then, 7 now)" in capsys.readouterr().out
    assert find_entry(f"local-dir:{tmp_path}/out").metrics["float"]["images"] == 16


def test_one_image_of_a_batch_is_not_told_as_one_to_calibrate_with(runs, data, tmp_path):
    options = [*NETWORK, *RUN, "--batch-size", "1", "--weights", f"{runs}/float/model.safetensors", "--data", str(data)]
    options += ["--max-steps", "1", "--alpha", "1", "--measure-images", "0", "--calibrate-images", "16"]
    with pytest.raises(TrainingError, match="^--batch-size 1 leaves batch normalization "):
        indicators.main([*options, "--output", f"{tmp_path}/out"])
    indicators.main([*options, "--freeze-batch-norm", "--output", f"{tmp_path}/out"])


def test_a_run_is_not_resumed_with_other_class_names_in_the_same_file(runs, data, tmp_path, cut_after_a_save):
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"class0": "Katze", "class1": "Hund"}))
    options = [*NETWORK, *RUN, "--weights", f"{runs}/float/model.safetensors", "--data", str(data)]
    options += ["--class-names", str(names), "--save-interval", "1", "--output", f"{tmp_path}/out"]
    cut_after_a_save(indicators.main, options)
    names.write_text(json.dumps({"class0": "Hund", "class1": "Katze"}))
    with pytest.raises(TrainingError, match="^--resume with another content of --class-names than the run began with"):
        indicators.main([*options, "--resume"])


@pytest.fixture
def tuning(runs, data, tmp_path) -> list[str]:
    """The options of a fine-tuning of a copy of the entry, with a policy in a file."""
    entry = shutil.copytree(runs / "joint", tmp_path / "entry")
    plan = limpq_hub.search(f"local-dir:{entry}", bitops="w4a4")
    (tmp_path / "policy.json").write_text(json.dumps(plan.policy.to_json()))
    named = ["--model", f"local-dir:{entry}", "--policy", f"{tmp_path}/policy.json", "--data", str(data)]
    steps = ["--max-steps", "2", "--calibrate-images", "8", "--save-interval", "1"]
    return [*named, *RUN, *steps, "--output", f"{tmp_path}/out"]


def test_a_run_is_not_resumed_with_another_supernet_in_the_same_entry(tuning, tmp_path, cut_after_a_save):
    cut_after_a_save(finetune.main, tuning)
    spec = NetworkSpec.from_config(open_local_folder(tmp_path / "entry", "entry").config, "entry")
    supernet = tmp_path / "entry/supernet.safetensors"
    tensors = load_file(supernet)
    tensors["fc.bias"] += 1
    save_file(tensors, supernet)
    seal_entry(tmp_path / "entry", spec)
    with pytest.raises(TrainingError) as refused:
        finetune.main([*tuning, "--resume"])
    assert str(refused.value) == (
        f"--resume with another local-dir:{tmp_path}/entry/supernet.safetensors than the run began with; bring that "
        "back, or choose another --output"
    )


def test_a_run_is_not_resumed_with_another_policy_in_the_same_file(tuning, tmp_path, cut_after_a_save):
    cut_after_a_save(finetune.main, tuning)
    other = limpq_hub.search(f"local-dir:{tmp_path}/entry", bitops="w3a3")
    (tmp_path / "policy.json").write_text(json.dumps(other.policy.to_json()))
    with pytest.raises(TrainingError, match=r"^--resume with another policy than the run began with; bring that back"):
        finetune.main([*tuning, "--resume"])


def test_what_was_noted_of_a_start_that_was_refused_does_not_count(tuning, tmp_path):
    with pytest.raises(DataError, match="do not fill|less than one batch"):
        finetune.main([*tuning, "--gradient-accumulation", "99"])
    other = limpq_hub.search(f"local-dir:{tmp_path}/entry", bitops="w3a3")
    (tmp_path / "policy.json").write_text(json.dumps(other.policy.to_json()))
    finetune.main([*tuning, "--max-steps", "1"])


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


def test_a_run_goes_on_where_pictures_and_weights_have_moved_to_and_only_with_the_same_ones(
    runs, copied, tmp_path, cut_after_a_save
):
    shutil.copytree(runs / "float", tmp_path / "float")

    def options(data: Path, weights: str) -> list[str]:
        names = ["--data", str(data), "--weights", weights, "--save-interval", "1", "--max-steps", "2"]
        return [*NETWORK, *RUN, *names, "--output", f"{tmp_path}/out"]

    cut_after_a_save(pretrain.main, options(copied, f"local-dir:{tmp_path}/float"))
    moved = shutil.move(copied, tmp_path / "elsewhere")
    weights = shutil.move(tmp_path / "float", tmp_path / "start")
    alone = shutil.copy(tmp_path / "start/model.safetensors", tmp_path / "alone.safetensors")
    # Without a config.json beside them, or with another one, pictures would be prepared otherwise.
    with pytest.raises(TrainingError, match="^--resume with another weights, weights_config_sha256; give the options"):
        pretrain.main([*options(moved, str(alone)), "--resume"])
    config = json.loads((weights / "config.json").read_text())
    config["pretrained_cfg"]["crop_pct"] = 0.5
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(TrainingError, match="^--resume with another weights, weights_config_sha256; give the options"):
        pretrain.main([*options(moved, str(alone)), "--resume"])
    (moved / "train/class0/0.png").rename(moved / "train/class0/other.png")
    with pytest.raises(TrainingError, match="elsewhere/train is with other pictures in class class0"):
        pretrain.main([*options(moved, f"local-dir:{weights}"), "--resume"])
    (moved / "train/class0/other.png").rename(moved / "train/class0/0.png")
    pretrain.main([*options(moved, f"local-dir:{weights}"), "--resume"])
    assert json.loads((tmp_path / "out/options.json").read_text())["data"] == str(moved)


def test_a_fine_tuning_goes_on_where_its_entry_has_moved_to(tuning, tmp_path, cut_after_a_save):
    cut_after_a_save(finetune.main, tuning)
    shutil.move(tmp_path / "entry", tmp_path / "moved")
    moved = [word.replace(f"{tmp_path}/entry", f"{tmp_path}/moved") for word in tuning]
    assert moved != tuning
    finetune.main([*moved, "--resume"])
    assert (tmp_path / "out/config.json").is_file()
