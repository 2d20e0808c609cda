"""What indicators.py exports beside the steps: alpha, and the float network with its figures."""

import contextlib
import io
import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_run import CLASSES, NETWORK, RUN

from limpq_hub.cli import main as limpq
from limpq_hub.errors import ArtifactIntegrityError, DataError, LimpqError
from limpq_hub.pictures import read_picture
from limpq_hub.pictures.preparation import preparation_of
from limpq_hub.plan.indicators import DEFAULT_ALPHA, Indicators
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.pair_divergence import pair_divergences
from limpq_hub.train import finetune, indicators, publish, validate
from limpq_hub.train.measure.alpha import ALPHAS
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_folder import load_float_network, load_supernet
from limpq_hub.zoo.entry_tensors import float_tensors, supernet_tensors
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.planning import search


@pytest.fixture(scope="module")
def one_step(runs, hard_data, tmp_path_factory) -> SimpleNamespace:
    """A run of one step on the hard pictures with --alpha 0.5, and the network whose top-1 it recorded.

    Its input size is that of the weights.
    """
    output, evaluated = tmp_path_factory.mktemp("one_step") / "joint", []
    evaluate = indicators.evaluate
    command = ["--model", "test_resnet", *RUN, "--data", str(hard_data), "--max-steps", "1", "--anchor-gap", "99"]
    command += ["--weights", f"{runs}/float/model.safetensors", "--output", str(output)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(indicators, "evaluate", lambda *given: evaluated.append(given[1]) or evaluate(*given))
        with contextlib.redirect_stdout(io.StringIO()) as said:
            indicators.main([*command, "--alpha", "0.5"])
    (network,) = evaluated
    entry = find_entry(f"local-dir:{output}")
    return SimpleNamespace(output=output, evaluated=network, entry=entry, said=said.getvalue().splitlines())


def test_an_alpha_that_is_given_is_kept_and_none_is_measured(one_step):
    assert one_step.entry.indicators.alpha == 0.5 != DEFAULT_ALPHA
    assert "kl_by_alpha" not in one_step.entry.indicators.provenance


def test_what_comes_after_the_training_is_told_before_it_with_the_options_that_shorten_it(one_step, hard_data):
    (told,) = [line for line in one_step.said if line.startswith("after the training ")]
    assert one_step.said.index(told) < next(
        place for place, line in enumerate(one_step.said) if line.startswith("step ")
    )
    policies = len(json.loads((one_step.output / "anchors.json").read_text())["policies"])
    pictures = len(list((hard_data / "train").glob("*/*")))
    assert pictures < 2048, "as many as are asked for where nothing is said"
    assert told == (
        f"after the training the BatchNorm statistics of about {policies} policies are measured on {pictures} images "
        "each (an --anchor-gap N above 99 takes fewer policies, --calibrate-images N fewer images), then the 350 pairs "
        "of bits of 14 layers are measured on 100 images (--measure-images N takes fewer, 0 leaves it out); what is "
        "measured is kept, and --resume goes on from it"
    )


def test_the_pairs_of_bits_are_measured_on_training_images_beside_the_learned_steps(one_step, hard_data):
    """In the joint network with the others at 3 bits, as `limpq measure` does; the search goes by the steps."""
    entry = one_step.entry
    split = in_order(hard_data / "train")
    drawn = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:100]
    prepare = preparation_of(NetworkSpec.from_config(entry.folder.config, entry.name))
    images = torch.stack([prepare(read_picture(split[index])) for index in drawn.tolist()])
    supernet = load_supernet(entry.folder, entry.indicators)
    with torch.no_grad():
        reference = load_float_network(entry.folder)(images).log_softmax(-1)
    others = Policy.uniform("test_resnet", entry.indicators.costs, 3)
    expected = dict(pair_divergences(supernet, [images], [reference], background=others))
    found = entry.indicators.divergences
    assert list(found) == list(entry.indicators.weight_steps)
    for layer, of_pairs in found.items():
        assert of_pairs == pytest.approx({bits: max(0.0, nats) for bits, nats in expected[layer].items()}, rel=1e-3), (
            layer
        )
    how = entry.indicators.provenance["divergences"]
    assert (how["weights"], how["others"], how["images"]) == ("joint", 3, 100)
    assert (entry.indicators.objective, search(entry.indicators, bitops="w3a3").importance) == ("learned", "learned")
    assert search(entry.indicators, bitops="w3a3", importance="measured").importance == "measured"


def test_no_pairs_are_measured_where_none_are_asked_for_and_a_resumed_run_may_ask(runs, data, tmp_path, capsys):
    joint, entry = f"{tmp_path}/joint", f"{tmp_path}/joint-entry"
    command = [*NETWORK, *RUN, "--data", str(data), "--max-steps", "1", "--alpha", "1", "--anchor-gap", "99"]
    command += ["--weights", f"{runs}/float/model.safetensors", "--per-channel", "--output", joint]
    indicators.main([*command, "--measure-images", "0"])
    said = capsys.readouterr().out
    assert "the pairs of bits" not in said
    *_, note, following, _ = said.splitlines()
    assert note.startswith("note: with a step per channel, measured pairs chose better bits")
    assert note.endswith("the same command with --resume and no --measure-images 0 measures them")
    assert following == f"next: limpq search {joint}/indicators.json --bitops w4a4"
    assert not find_entry(f"local-dir:{joint}").indicators.divergences
    for images in (4, 3):
        indicators.main([*command, "--measure-images", str(images), "--resume"])
        how = find_entry(f"local-dir:{joint}").indicators.provenance["divergences"]
        assert (how["weights"], how["others"], how["images"]) == ("float", None, images)
    said = capsys.readouterr().out
    # As `limpq measure` does where nothing is said.
    measure = ["measure", f"local-dir:{joint}", "--images", f"{data}/train", "--count", "2"]
    assert limpq([*measure, "--output", f"{tmp_path}/measured.json"]) == 0
    assert Indicators.load(tmp_path / "measured.json").provenance["divergences"]["weights"] == "float"
    # With a step per channel the entry to search is one that goes by the pairs.
    *_, first, following, then = said.splitlines()
    _, words = first.split(" (training/README.md): python -m limpq_hub.train.publish ")
    publish.main(shlex.split(words))
    assert find_entry(f"local-dir:{entry}").indicators.objective == "measured"
    assert following == f"next: limpq search {entry}/indicators.json --bitops w4a4"
    assert f" --model local-dir:{entry} " in then


def test_the_run_ends_with_what_validate_measures_of_the_joint_weights_at_most_middle_and_fewest_bits(
    one_step, hard_data, tmp_path, capsys
):
    learned = one_step.entry.indicators
    assert learned.input_size == 32
    lines = [line for line in one_step.said if line.startswith("joint weights, all layers at ")]
    assert [line.split()[5] for line in lines] == ["6", "4", "2"]
    for line, bits in zip(lines, (6, 4, 2), strict=True):
        policy = Policy.uniform(learned.model, learned.costs, bits, input_size=learned.input_size)
        write_json(tmp_path / "policy.json", policy.to_json())
        asked = ["--model", one_step.entry.name, "--policy", f"{tmp_path}/policy.json", "--weights", "joint"]
        validate.main([*asked, "--data", str(hard_data), *RUN])
        measured = json.loads(capsys.readouterr().out)
        assert line.endswith(f"bits: top-1 {measured['top1']:.2f} %, KL to float {measured['kl']:.4f}")


def test_the_measured_alpha_is_that_of_the_least_geometric_mean_on_record(runs):
    found = find_entry(f"local-dir:{runs}/joint").indicators
    record = found.provenance["kl_by_alpha"]
    assert [float(alpha) for alpha in record][: len(ALPHAS)] == list(ALPHAS)
    assert {len(divergences) for divergences in record.values()} == {len(found.candidates) - 2}
    means = {float(alpha): np.exp(np.mean(np.log(divergences))) for alpha, divergences in record.items()}
    assert means[found.alpha] == pytest.approx(min(means.values()), rel=1e-4)
    assert len({round(mean, 4) for mean in means.values()}) > 1
    assert {"command", "seed", "device", "seconds", "date", "versions", "data"} <= found.provenance.keys()
    assert found.provenance["model"] == "test_resnet"


def test_the_entry_ships_the_float_network_with_large_weights_in_half_precision(runs):
    given = load_file(runs / "float/model.safetensors")
    shipped = float_tensors(open_local_folder(runs / "joint", "entry"))
    assert shipped.keys() == given.keys()
    for name, value in given.items():
        assert torch.equal(shipped[name], value.half() if value.ndim > 1 else value), name
    assert shipped["fc.weight"].dtype == torch.float16


def in_order(folder) -> list[Path]:
    """Return the pictures of a split in the order of the classes, and of their numbers."""
    return sorted(folder.glob("*/*.png"), key=lambda path: (path.parent.name, int(path.stem)))


def pictures(folder) -> torch.Tensor:
    """Return all pictures of a split as the network takes them, resized by PIL, in the order of the classes."""
    spec = timm.get_pretrained_cfg("test_resnet")
    resized = (Image.open(path).resize((32, 32), Image.Resampling.BILINEAR) for path in in_order(folder))
    images = np.stack([np.asarray(picture) for picture in resized])
    return torch.from_numpy(((images / 255 - spec.mean) / spec.std).astype(np.float32)).permute(0, 3, 1, 2)


def test_the_float_top_1_is_that_of_the_network_that_is_shipped(one_step, runs, hard_data):
    network = timm.create_model("test_resnet", num_classes=CLASSES).eval()
    shipped = float_tensors(open_local_folder(one_step.output, "entry"))
    network.load_state_dict(shipped)
    found = one_step.evaluated.state_dict()
    assert all(torch.equal(found[name], value) for name, value in network.state_dict().items())
    given = load_file(runs / "float/model.safetensors")
    assert any(not torch.equal(found[name], value) for name, value in given.items())
    labels = torch.arange(CLASSES).repeat_interleave(12)
    with torch.no_grad():
        hits = network(pictures(hard_data / "val")).argmax(1) == labels
    figures = one_step.entry.folder.read_json("metrics.json")["float"]
    assert figures["top1"] == pytest.approx(100 * float(hits.double().mean()), abs=1e-4)
    assert 0 < figures["top1"] < 100
    assert one_step.entry.summary()["float_top1"] == figures["top1"]


def test_the_figures_are_sealed_in_the_entry(one_step):
    metrics = one_step.entry.folder.read_json("metrics.json")
    assert metrics.keys() == {"float", "joint"}
    assert (metrics["joint"], metrics["float"].keys()) == ([], {"top1", "top5", "images", "data", "provenance"})
    assert {"float.safetensors", "metrics.json", "indicators.json"} <= set(one_step.entry.folder.files)
    path = one_step.output / "metrics.json"
    text = path.read_text()
    path.write_text(text.replace('"images": 48', '"images": 49'))
    with pytest.raises(ArtifactIntegrityError, match=r"metrics.json is damaged: its [0-9]+ bytes are not the [0-9]+"):
        one_step.entry.folder.read_json("metrics.json")
    path.write_text(text)


def test_a_step_per_channel_is_trained_recorded_and_fine_tuned(runs, data, tmp_path):
    common = [*RUN, "--data", str(data), "--max-steps", "1", "--calibrate-images", "8"]
    weights = ["--weights", f"{runs}/float/model.safetensors"]
    joint = [*NETWORK, *common, *weights, "--alpha", "1", "--anchor-gap", "99", "--output", f"{tmp_path}/joint"]
    indicators.main([*joint, "--per-channel", "--step-start", "lsq"])
    entry = find_entry(f"local-dir:{tmp_path}/joint")
    assert entry.indicators.per_channel
    assert not find_entry(f"local-dir:{runs}/joint").indicators.per_channel
    steps = supernet_tensors(open_local_folder(tmp_path / "joint", "entry"))
    candidates = len(entry.indicators.candidates)
    for name, read in entry.indicators.weight_steps.items():
        of_channels = steps[f"{name}.weight_quantizer.step"].double()
        assert of_channels.shape == (candidates, len(steps[f"{name}.weight"])), name
        expected = of_channels.clamp_min(1e-5).square().mean(1).sqrt()
        assert list(read.values()) == pytest.approx(expected.tolist(), rel=1e-3)
    for start in ("joint", "float"):
        tuned = ["--model", f"local-dir:{tmp_path}/joint", "--bitops", "w4a4", "--from", start]
        finetune.main([*tuned, *common, *weights, "--output", f"{tmp_path}/from-{start}"])
        packed = load_file(tmp_path / f"from-{start}/model.safetensors")
        assert all(len(packed[f"{name}.weight_scale"]) > 1 for name in entry.indicators.weight_steps)


@pytest.mark.parametrize("option", ["--exclude", "--fix"])
def test_what_leaves_nothing_to_search_is_told_before_the_training(runs, data, tmp_path, capsys, option):
    command = [*NETWORK, *RUN, "--data", str(data), "--weights", f"{runs}/float/model.safetensors", option, "*"]
    with pytest.raises(LimpqError, match="^--exclude and --fix leave no layer whose bits can be searched; name fewer"):
        indicators.main([*command, "--output", f"{tmp_path}/out"])
    assert "step 1" not in capsys.readouterr().out


def test_one_picture_to_calibrate_with_is_told_before_the_training(runs, data, tmp_path, capsys):
    joint = [*NETWORK, "--weights", f"{runs}/float/model.safetensors", "--alpha", "1"]
    for main, options in (
        (indicators.main, joint),
        (finetune.main, ["--model", f"local-dir:{runs}/joint", "--bitops", "w4a4"]),
    ):
        command = [*options, *RUN, "--data", str(data), "--calibrate-images", "1", "--output", f"{tmp_path}/out"]
        with pytest.raises(DataError, match="^one image leaves batch normalization .* give two images or more"):
            main(command)
        assert "step 1" not in capsys.readouterr().out
