"""Where a float network comes from: timm itself, a file, a folder or a repository of timm's layout; what fits not."""

import json
import math
import pickle
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from torch import nn

from limpq_hub.errors import (
    HubNotFoundError,
    HubOfflineError,
    HubUnavailableError,
    LimpqError,
    TrainingError,
    UnknownModelError,
    UnsafeFileError,
)
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.train import indicators, pretrain
from limpq_hub.train.settings import NetworkSettings
from limpq_hub.train.weights.networks import classifier_for, description_of, float_network
from limpq_hub.train.weights.picture_preparation import preparation_note
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.timm_config import timm_config
from limpq_hub.zoo.timm_names import known_config
from limpq_hub.zoo.timm_network import timm_network

OWN = {
    "mean": (0.1, 0.2, 0.3),
    "std": (0.5, 0.6, 0.7),
    "crop_pct": 0.9,
    "crop_mode": "squash",
    "interpolation": "bicubic",
}
ARGUMENTS = {"pad_type": "same"}
START = NetworkSettings("test_efficientnet", 32, None)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    built = timm_network("test_efficientnet", input_size=32, config=OWN, num_classes=7, pretrained=False, **ARGUMENTS)
    return built.eval()


@pytest.fixture
def folder(network, tmp_path) -> Path:
    """A folder as timm's own `save_for_hf` and `push_to_hf_hub` write it."""
    save_for_hf(network, str(tmp_path / "timm"), model_args=ARGUMENTS, safe_serialization=True)
    return tmp_path / "timm"


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def agree(one: nn.Module, other: nn.Module, images: torch.Tensor) -> bool:
    return torch.equal(one(images), other(images))


def test_a_folder_that_timm_saved_gives_weights_arguments_classes_and_preprocessing(network, folder, images):
    loaded = float_network(START, f"local-dir:{folder}", None)
    assert agree(loaded, network, images)
    assert not loaded.training
    spec = NetworkSpec.of(loaded)
    assert (spec.num_classes, spec.input_size, spec.model_args["pad_type"]) == (7, 32, "same")
    assert {key: getattr(spec, key) for key in OWN} == OWN
    assert description_of(loaded, "local-dir:x").startswith("float network: test_efficientnet ")
    assert description_of(loaded, "local-dir:x").endswith(
        "pad_type=same at 32 pixels with 7 classes, weights local-dir:x; pictures: mean 0.1 0.2 0.3, std 0.5 0.6 0.7, "
        "crop 0.9 (squash), bicubic"
    )


def test_a_repository_of_the_hub_gives_the_same(network, folder, images, online):
    sha = online.hub.commit("timm/mine", {path.name: path.read_bytes() for path in folder.iterdir()})
    for name in ("hf-hub:timm/mine", f"hf-hub:timm/mine@{sha}"):
        assert agree(float_network(START, name, 7), network, images)


def test_a_file_with_timms_configuration_beside_it_gives_the_same(network, folder, images):
    (folder / "model.safetensors").rename(folder / "mine.safetensors")
    loaded = float_network(START, str(folder / "mine.safetensors"), None)
    assert agree(loaded, network, images)
    assert NetworkSpec.of(loaded).crop_mode == "squash"


@pytest.mark.parametrize(
    "beside", [None, {"architectures": ["ResNet"]}, {"format": 2, "architecture": "x"}, []], ids=str
)
def test_without_one_pictures_are_scaled_whole_and_the_classes_are_the_rows_of_the_classifier(
    network, tmp_path, beside
):
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    if beside is not None:
        write_json(tmp_path / "config.json", beside)
    spec = NetworkSpec.of(float_network(START, str(tmp_path / "mine.safetensors"), None))
    known = timm.get_pretrained_cfg("test_efficientnet")
    assert (spec.mean, spec.std) == (known.mean, known.std)
    assert (spec.crop_pct, spec.crop_mode, spec.interpolation, spec.num_classes) == (1.0, "center", "bilinear", 7)
    assert spec.model_args == {}


def test_the_older_layout_of_timm_is_read_too(network, tmp_path, images):
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    older = {"architecture": "test_efficientnet", "num_classes": 7, "mean": [0.1, 0.2, 0.3], "crop_mode": None}
    write_json(tmp_path / "config.json", older)
    spec = NetworkSpec.of(float_network(START, f"local-dir:{tmp_path}", None))
    # What it does not say is as timm's own `PretrainedCfg` has it.
    assert (spec.mean, spec.std) == ((0.1, 0.2, 0.3), (0.229, 0.224, 0.225))
    assert (spec.crop_pct, spec.crop_mode, spec.interpolation) == (0.875, "center", "bicubic")


def test_what_is_asked_for_comes_before_what_the_weights_say(folder):
    asked = {"mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 0.8, "crop_mode": "border", "interpolation": "bilinear"}
    start = NetworkSettings("test_efficientnet", 48, None, {"pad_type": ""}, **asked)
    spec = NetworkSpec.of(float_network(start, f"local-dir:{folder}", None))
    assert {key: getattr(spec, key) for key in asked} == asked | {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    assert (spec.input_size, spec.model_args["pad_type"]) == (48, "")


@pytest.mark.parametrize("source", ["folder", "repository", "file"])
def test_the_input_size_is_that_of_the_weights_unless_one_is_asked_for(network, folder, online, source):
    (folder / "config.json").write_text((folder / "config.json").read_text().replace("32", "48"))
    if source == "repository":
        online.hub.commit("timm/mine", {path.name: path.read_bytes() for path in folder.iterdir()})
    file = str(folder / "model.safetensors")
    name = {"folder": f"local-dir:{folder}", "repository": "hf-hub:timm/mine", "file": file}[source]
    for asked, expected in ((None, 48), (64, 64)):
        built = float_network(NetworkSettings("test_efficientnet", asked, None), name, None)
        assert NetworkSpec.of(built).input_size == expected


@pytest.mark.parametrize("beside", [None, {"architecture": "test_efficientnet"}], ids=["nothing", "no size"])
def test_where_the_weights_say_no_size_it_is_timms(network, tmp_path, beside):
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    if beside is not None:
        write_json(tmp_path / "config.json", beside)
    built = float_network(NetworkSettings("test_efficientnet", None, None), str(tmp_path / "mine.safetensors"), None)
    expected = 224 if beside else timm.get_pretrained_cfg("test_efficientnet").input_size[-1]
    assert NetworkSpec.of(built).input_size == expected


def test_timms_own_weights_come_with_its_configuration_and_by_their_tag(online, images):
    torch.manual_seed(1)
    theirs = timm.create_model("test_resnet").eval()
    repository = f"timm/test_resnet.{timm.get_pretrained_cfg('test_resnet').tag}"
    files = {"model.safetensors": _bytes_of(theirs)}
    online.hub.commit(repository, files)
    for name in ("test_resnet", repository.removeprefix("timm/")):
        loaded = float_network(NetworkSettings(name, 64, None), "pretrained", None)
        assert agree(loaded, theirs, images)
        spec, known = NetworkSpec.of(loaded), timm.get_pretrained_cfg("test_resnet")
        for key in OWN:
            assert getattr(spec, key) == getattr(known, key)
        assert (spec.num_classes, spec.input_size) == (1000, 64)
        unasked = float_network(NetworkSettings(name, None, None), "pretrained", None)
        assert NetworkSpec.of(unasked).input_size == known.input_size[-1]


def _bytes_of(network: nn.Module) -> bytes:
    from safetensors.torch import save

    return save(network.state_dict())


def test_what_is_written_beside_pretrained_weights_is_a_folder_of_timm(network, tmp_path, images):
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", timm_config(network))
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert agree(theirs, network, images)
    found, expected = (json.dumps(timm.data.resolve_model_data_config(module)) for module in (theirs, network))
    assert found == expected
    ours = float_network(START, f"local-dir:{tmp_path}", None)
    assert NetworkSpec.of(ours) == NetworkSpec.of(network) == NetworkSpec.of(theirs)


def test_a_network_of_one_size_is_a_folder_of_timm_too(tmp_path):
    vit = timm_network("test_vit", input_size=64, num_classes=3, pretrained=False).eval()
    save_file(vit.state_dict(), tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", timm_config(vit))
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert agree(theirs, vit, torch.randn(1, 3, 64, 64))


def test_pretraining_leaves_a_folder_that_timm_and_the_joint_training_take(data, tmp_path, capsys):
    typed = ["--model", "test_efficientnet", "--model-args", "pad_type=same", "--crop-mode", "squash", "--mean", *"000"]
    run = ["--input-size", "32", "--batch-size", "8", "--workers", "0", "--threads", "1", "--max-steps", "1"]
    pretrain.main([*typed, *run, "--data", str(data), "--output", str(tmp_path / "float")])
    out = capsys.readouterr().out
    assert (
        "float network: test_efficientnet pad_type=same at 32 pixels with 4 classes, random weights; pictures: " in out
    )
    assert "mean 0 0 0, " in out
    assert "crop 1 (squash), bilinear" in out
    assert f"--weights {tmp_path}/float/model.safetensors --model-args pad_type=same" in out
    assert " --distill 0.5 --output out/joint\n" in out
    theirs = timm.create_model(f"local-dir:{tmp_path}/float", pretrained=True)
    assert NetworkSpec.of(theirs) == NetworkSpec.of(float_network(START, f"local-dir:{tmp_path}/float", 4))
    assert NetworkSpec.of(theirs).crop_mode == "squash"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "hf-hub:timm/resnet18",
            "is where weights are: give the timm architecture, for example resnet18, and --weights hf-",
        ),
        (
            "local-dir:x",
            "is where weights are: give the timm architecture, for example resnet18, and --weights local-dir:x",
        ),
        (
            "hf-hub:timm/mobilenetv3_small_100.lamb_in1k",
            "give the timm architecture, for example mobilenetv3_small_100, and --weights "
            "hf-hub:timm/mobilenetv3_small_100.lamb_in1k",
        ),
        (
            "mobilenet_v2",
            "timm has no network 'mobilenet_v2'; that is torchvision's name, timm's of the same architecture is "
            "mobilenetv2_100",
        ),
        (
            "squeezenet1_0",
            "torchvision has it; quantize a network that timm has not as a module: limpq_hub.to_supernet",
        ),
        ("resnet18.nobody", "timm has no weights 'resnet18.nobody'; give resnet18 alone, or resnet18."),
    ],
)
def test_a_model_that_is_no_architecture_is_refused(model, message):
    for weights in ("pretrained", None, "x.safetensors"):
        with pytest.raises((TrainingError, UnknownModelError), match=re.escape(message)):
            float_network(NetworkSettings(model, 32, None), weights, None)


def test_a_folder_in_the_place_of_an_architecture_is_told_with_its_prefix(tmp_path):
    folder = tmp_path / "resnet50:1"
    folder.mkdir()
    with pytest.raises(TrainingError, match=re.escape(f"for example resnet18, and --weights local-dir:{folder}")):
        float_network(NetworkSettings(str(folder), 32, None), None, None)
    with pytest.raises(UnknownModelError, match="give the timm architecture, for example resnet18$"):
        known_config(str(folder))


def test_an_architecture_of_which_timm_has_no_weights_is_told_so():
    name = next(name for name in timm.list_models() if not timm.is_model_pretrained(name))
    with pytest.raises(
        TrainingError, match=f"^timm has no weights of {name}: train others with .*pretrain, and give --we"
    ):
        float_network(NetworkSettings(name, 64, None), "pretrained", None)


def test_weights_for_other_classes_are_refused_with_both_numbers(folder):
    for name in (f"local-dir:{folder}", str(folder / "model.safetensors")):
        with pytest.raises(TrainingError) as caught:
            float_network(START, name, 4)
        assert str(caught.value).startswith(
            f"--weights '{name}' is for 7 classes, the network is to have 4: give weights for as many, or train some "
        )


def test_weights_of_another_architecture_are_refused_by_name_or_by_tensor(folder, tmp_path):
    start = NetworkSettings("test_resnet", 32, None)
    with pytest.raises(TrainingError, match=r"' is of 'test_efficientnet', --model is 'test_resnet': give both of one"):
        float_network(start, f"local-dir:{folder}", None)
    (folder / "config.json").unlink()
    with pytest.raises(TrainingError) as caught:
        float_network(start, str(folder / "model.safetensors"), None)
    assert re.search(
        r"model.safetensors': tensor \S+ is missing; is it of test_resnet at 32 pixels with", str(caught.value)
    )
    assert str(caught.value).endswith("give the --model and --model-args that the weights are of")


def test_weights_with_other_arguments_are_refused_by_tensor(folder):
    start = NetworkSettings("test_efficientnet", 32, None, {"channel_multiplier": 1.4})
    with pytest.raises(
        TrainingError, match=r"tensor \S+ is torch.float32 \[.*\], the network needs \[.*channel_multiplier=1.4"
    ):
        float_network(start, f"local-dir:{folder}", None)


def test_arguments_that_the_network_does_not_take_are_told_with_what_timm_says():
    start = NetworkSettings("mobilenetv2_100", 32, None, {"channel_multiplier": 1.4})
    with pytest.raises(
        TrainingError, match=r"^--model: timm cannot build mobilenetv2_100 channel_multiplier=1.4 at 32 .*leave out"
    ):
        float_network(start, None, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "' is not a safetensors file: "),
        (pickle.dumps({"a": 1}), "' is not a safetensors file: "),
        (b"whole", "give a whole model.safetensors in timm's names"),
    ],
)
def test_a_damaged_file_and_a_pickle_are_refused(folder, content, message):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10] if content == b"whole" else content)
    for name in (str(path), f"local-dir:{folder}"):
        with pytest.raises(TrainingError, match=re.escape(message)):
            float_network(START, name, None)


@pytest.mark.parametrize("name", ["old weights.pth", "last.ckpt", "pytorch_model.bin", "best.pth.tar"])
@pytest.mark.parametrize("key", [None, "state_dict"])
def test_what_torch_saved_is_refused_with_a_line_that_converts_it(network, tmp_path, images, name, key):
    state = network.state_dict()
    torch.save(state if key is None else {key: state, "epoch": 3}, tmp_path / name)
    with pytest.raises(TrainingError, match="a pickle can execute code and is not read; this converts it") as caught:
        float_network(START, str(tmp_path / name), None)
    python, dash, code = shlex.split(str(caught.value).partition("converts it safely: ")[2])
    assert (python, dash) == ("python", "-c")
    assert "weights_only=True" in code
    exec(code, {})
    converted = (tmp_path / name).with_suffix(".safetensors")
    assert agree(
        float_network(NetworkSettings("test_efficientnet", 32, None, ARGUMENTS), str(converted), 7), network, images
    )


def test_a_folder_that_holds_a_pickle_alone_is_refused_with_a_line_that_converts_it(network, folder, images):
    (folder / "model.safetensors").unlink()
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(TrainingError, match="there is no model.safetensors; a pickle can execute code") as caught:
        float_network(START, f"local-dir:{folder}", None)
    exec(shlex.split(str(caught.value).partition("converts it safely: ")[2])[2], {})
    assert agree(float_network(START, f"local-dir:{folder}", None), network, images)


@pytest.mark.parametrize(("weights", "new"), [("pretrained", 4), ("folder", 4), ("folder", 7), (None, 4)])
def test_trained_features_get_a_new_head_where_the_classes_are_others(network, folder, online, weights, new):
    torch.manual_seed(1)
    theirs = timm.create_model("test_resnet") if weights == "pretrained" else network
    online.hub.commit(
        f"timm/test_resnet.{timm.get_pretrained_cfg('test_resnet').tag}", {"model.safetensors": _bytes_of(theirs)}
    )
    named = f"local-dir:{folder}" if weights == "folder" else weights
    model = "test_resnet" if weights == "pretrained" else "test_efficientnet"
    built, new_head = classifier_for(NetworkSettings(model, 32, named), new)
    assert new_head == (weights is not None and new != theirs.num_classes)
    assert NetworkSpec.of(built).num_classes == new
    state, head = built.state_dict(), built.pretrained_cfg["classifier"]
    assert state[f"{head}.weight"].shape[0] == new
    kept = [name for name, value in theirs.state_dict().items() if not name.startswith(head)]
    same = all(torch.equal(state[name], theirs.state_dict()[name]) for name in kept)
    assert same == (weights is not None)
    assert ("weights x, a new head; pictures" in description_of(built, "x", new_head=new_head)) == new_head


def test_a_pretraining_from_weights_for_other_classes_says_so_and_trains_shorter(
    network, folder, data, tmp_path, capsys
):
    run = ["--input-size", "32", "--batch-size", "8", "--workers", "0", "--threads", "1", "--max-steps", "1"]
    typed = ["--model", "test_efficientnet", "--weights", f"local-dir:{folder}", "--data", str(data)]
    pretrain.main([*typed, *run, "--output", str(tmp_path / "float")])
    out = capsys.readouterr().out
    assert f"with 4 classes, weights local-dir:{folder}, a new head; pictures: " in out
    assert "rate 0.01 after 1 epoch of warm-up; --epochs, " in out
    assert NetworkSpec.of(float_network(START, f"local-dir:{tmp_path}/float", 4)).num_classes == 4


def test_weights_that_take_pictures_otherwise_are_told_with_both_preparations(folder, network, tmp_path):
    spec = replace(NetworkSpec.of(network), crop_pct=0.5, crop_mode="center")
    here = "mean 0.1 0.2 0.3, std 0.5 0.6 0.7, crop 0.5 (center), bicubic"
    name = f"local-dir:{folder}"

    def note(weights: str | None, of: NetworkSpec = spec, typed: tuple[str, ...] = ()) -> str | None:
        return preparation_note(weights, of, "--teacher", model="test_efficientnet", typed=typed)

    assert note(name) == (
        f"note: --teacher {name} takes pictures otherwise than they are prepared here: it with mean 0.1 0.2 0.3, std "
        f"0.5 0.6 0.7, crop 0.9 (squash), bicubic; here with {here}"
    )
    assert note(name, NetworkSpec.of(network)) is None
    assert note(name, typed=("crop_pct", "crop_mode")) is None
    known = timm.get_pretrained_cfg("test_efficientnet")
    mean = " ".join(f"{value:g}" for value in known.mean)
    assert f"note: --teacher pretrained takes pictures otherwise than they are prepared here: it with mean {mean}," in (
        note("pretrained")
    )
    # A file alone does not say; nor is there another network where none is named.
    save_file(network.state_dict(), tmp_path / "alone.safetensors")
    assert note(f"{tmp_path}/alone.safetensors") is note(None) is None


def test_what_is_wrong_with_a_teacher_is_told_of_that_option(folder, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.safetensors").write_text("text")
    (tmp_path / "net.pth").write_text("text")
    (tmp_path / "bare").mkdir()
    run = ["--data", str(data), "--distill", "1", "--output", str(tmp_path / "out")]
    for teacher, message in (
        ("nowhere.safetensors", "'nowhere.safetensors': there is no such file"),
        ("resnet18.tiny_imagenet", "'resnet18.tiny_imagenet': there is no such file; it names a bundled entry: run "),
        ("timm", "'timm' is a folder: write --teacher local-dir:timm"),
        ("local-dir:bare", "'local-dir:bare': there is no config.json; give"),
        ("text.safetensors", "'text.safetensors'"),
        ("net.pth", "'net.pth'"),
        ("hf-hub:you/net", "needs model.safetensors of hf-hub:you"),
    ):
        with pytest.raises(LimpqError) as caught:
            indicators.main(
                ["--model", "test_efficientnet", "--weights", f"local-dir:{folder}", "--teacher", teacher, *run]
            )
        assert str(caught.value).startswith(f"--teacher {message}")
        assert "--weights" not in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ([], (60, 0.05, 3.0)),
        (["--weights", "pretrained"], (20, 0.01, 1.0)),
        (["--weights", "pretrained", "--lr", "0.2"], (20, 0.2, 1.0)),
        (["--epochs", "10"], (10, 0.05, 0.5)),
        (["--warmup-epochs", "0"], (60, 0.05, 0.0)),
    ],
    ids=str,
)
def test_epochs_and_rates_that_are_not_typed_suit_the_start_and_are_recorded(typed, expected):
    settings = pretrain.parse_options(["--model", "resnet18", "--data", "x", "--output", "out", *typed])
    schedule, options = settings.training.schedule, settings.training.invocation.options
    assert (schedule.epochs, schedule.lr, schedule.warmup_epochs) == pytest.approx(expected)
    assert (options["epochs"], options["lr"], options["warmup_epochs"]) == pytest.approx(expected)


def test_a_value_that_is_not_finite_is_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["conv_stem.weight"][0] = float("nan")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(TrainingError, match=r"tensor conv_stem.weight has a value that is not finite"):
        float_network(START, f"local-dir:{folder}", None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("[]", "its config.json is neither one of timm's, which name an architecture, nor that of an entry; give"),
        ('{"format": 2, "kind": "x", "architecture": "test_efficientnet"}', "its config.json is neither one of timm's"),
        ("no JSON", "is not JSON"),
        ({"architecture": 3}, "architecture must be text, found 3"),
        ({"pretrained_cfg": 3}, "pretrained_cfg must be an object, found 3"),
        ({"model_args": []}, "model_args must be an object, found []"),
        ({"model_args": {"norm_layer": "x"}}, "model_args: 'norm_layer' is not an argument that can be kept"),
        ({"model_args": {"in_chans": 1}}, "model_args: 'in_chans' is not an argument that can be kept"),
        ({"model_args": {"pad_type": "x"}}, "model_args: pad_type must be one of"),
        ({"num_classes": "all"}, "num_classes must be a whole number, found 'all'"),
        ({"pretrained_cfg": {"input_size": 64}}, "input_size must be a list, found 64"),
        ({"pretrained_cfg": {"input_size": [3, 64, "64"]}}, "input_size must be a whole number, found '64'"),
        ({"pretrained_cfg": {"mean": 0.5}}, "mean must be a list, found 0.5"),
        ({"pretrained_cfg": {"std": [0, 1, 1]}}, "mean, std, interpolation or crop_mode is not how pictures can be"),
        ({"pretrained_cfg": {"crop_mode": "fit"}}, "mean, std, interpolation or crop_mode is not how pictures can be"),
        ({"pretrained_cfg": {"interpolation": "random"}}, "mean, std, interpolation or crop_mode is not how"),
        ({"pretrained_cfg": {"crop_pct": 3}}, "crop_pct of 3 cannot be"),
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_is_refused(folder, change, message):
    path = folder / "config.json"
    path.write_text(change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(TrainingError, match=re.escape(message)) as caught:
        float_network(START, f"local-dir:{folder}", None)
    assert str(caught.value).startswith("--weights")


def test_a_folder_without_either_file_is_refused_by_the_file(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    for name, file in ((folder, "model.safetensors"), (tmp_path, "config.json"), (tmp_path / "none", "config.json")):
        with pytest.raises(TrainingError) as caught:
            float_network(START, f"local-dir:{name}", None)
        assert (
            str(caught.value)
            == f"--weights 'local-dir:{name}': there is no {file}; give a folder that timm saved, or an entry"
        )


def test_a_repository_with_a_pickle_alone_or_with_nothing_is_refused_and_nothing_fetched(folder, online):
    config = (folder / "config.json").read_bytes()
    online.hub.commit("timm/pickled", {"config.json": config, "pytorch_model.bin": pickle.dumps({})})
    online.hub.commit("timm/bare", {"pytorch_model.bin": pickle.dumps({})})
    with pytest.raises(HubNotFoundError, match=r"are read from model\.safetensors alone, never from a pickle$"):
        float_network(START, "hf-hub:timm/pickled", None)
    with pytest.raises(UnsafeFileError, match=r"holds 'pytorch_model\.bin', a pickle"):
        float_network(START, "hf-hub:timm/bare", None)
    with pytest.raises(HubNotFoundError):
        float_network(START, "hf-hub:timm/none", None)
    with pytest.raises(HubNotFoundError, match="^'resnet18' is not the name of a Hub repository: write owner/name"):
        float_network(START, "hf-hub:resnet18", None)
    assert "pytorch_model.bin" not in online.hub.fetched()


@pytest.mark.parametrize("weights", ["pretrained", "hf-hub:you/mine", "hf-hub:you/mine@v1"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (
            "nothing listens",
            "The connection to the Hub was refused: check the internet connection, and HF_ENDPOINT or HTTPS_PROXY if "
            "one is set",
        ),
        ("busy", "The Hub did not answer (503): try again later"),
        ("offline", "HF_HUB_OFFLINE is set: unset it, and try again"),
    ],
)
def test_weights_of_a_hub_that_is_not_reached_are_told_in_short_sentences_with_what_to_type(
    online, monkeypatch, weights, fault, reason
):
    if fault == "busy":
        online.hub.fault("*", "unavailable", math.inf)
    elif fault == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
        )
    tag = timm.get_pretrained_cfg("test_efficientnet").tag
    repository = f"hf-hub:timm/test_efficientnet.{tag}" if weights == "pretrained" else weights
    with pytest.raises((HubUnavailableError, HubOfflineError)) as caught:
        float_network(START, weights, None)
    assert str(caught.value) == (
        f"--weights needs model.safetensors of {repository}, and the cache does not have it. {reason}. Or take "
        "model.safetensors and config.json from a machine that has them, and give --weights FILE.safetensors, with "
        "config.json beside it"
    )


@pytest.mark.parametrize("command", [pretrain, indicators], ids=["pretrain", "indicators"])
@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            ["--model-args", "norm_layer=x"],
            "argument --model-args: 'norm_layer' is not an argument that can be kept; limpq_hub.zoo.model_args lists",
        ),
        (["--model-args", "same"], "argument --model-args: 'same' is not NAME=VALUE, for example pad_type=same"),
        (["--model-args", "depth=0"], "argument --model-args: depth must be a whole number from 1 to 64, found 0"),
        (["--mean", "1", "2", "3"], "argument --mean: 2 is not from 0 to 1"),
        (["--mean", "0.5"], "argument --mean: expected 3 arguments"),
        (["--std", "0", "1", "1"], "argument --std: 0 is not from 0.01 to 1"),
        (["--std", "nan", "1", "1"], "argument --std: nan is not from 0.01 to 1"),
        (["--crop-pct", "0"], "argument --crop-pct: 0 is not from 0.01 to 1"),
        (["--crop-pct", "all"], "argument --crop-pct: invalid number value: 'all'"),
        (["--crop-mode", "fit"], "argument --crop-mode: invalid choice: 'fit'"),
        (["--interpolation", "random"], "argument --interpolation: invalid choice: 'random'"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused_in_one_line(command, typed, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as caught:
        command.main(["--model", "resnet18", "--data", "x", "--output", str(tmp_path / "out"), *typed])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_recipe_takes_arguments_of_the_network_as_a_list(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "pretrain:\n  model-args: [pad_type=same, depth_multiplier=1.2]\n  mean: [0, 0, 0.5]\n"
    )
    typed = ["--model", "resnet18", "--data", "x", "--output", "out", "--recipe", str(tmp_path / "mine.yaml")]
    settings = pretrain.parse_options(typed)
    assert settings.network.model_args == {"pad_type": "same", "depth_multiplier": 1.2}
    assert settings.network.mean == [0, 0, 0.5]
    assert settings.training.invocation.options["model_args"] == settings.network.model_args
    again = pretrain.parse_options([*typed, "--model-args", "pad_type="])
    assert again.network.model_args == {"pad_type": ""}
