"""What a run leaves behind when it is killed while it exports and measures is no entry and no checkpoint."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_run import NETWORK, RUN
from torch import nn

import limpq_hub
from limpq_hub.cli import main as limpq
from limpq_hub.errors import ArtifactIntegrityError, TrainingError
from limpq_hub.plan.policy import Policy
from limpq_hub.train import entry_export, finetune, indicators, publish
from limpq_hub.train.measure import divergence, pair_importance
from limpq_hub.train.measure.kept_measurements import kept_measurements
from limpq_hub.zoo import anchors
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.folder import open_local_folder

ADVICE = "config.json is missing; the training that writes it has not ended: run its command again with --resume"


def killed_in(monkeypatch: pytest.MonkeyPatch, module: object, name: str, main, options: list[str]) -> None:
    def die(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, name, die)
        with pytest.raises(KeyboardInterrupt):
            main(options)


@pytest.fixture
def joint_options(runs, data, tmp_path) -> list[str]:
    weights = ["--weights", f"{runs}/float/model.safetensors", "--alpha", "1", "--anchor-gap", "99"]
    return [*NETWORK, *RUN, "--data", str(data), *weights, "--max-steps", "1", "--output", f"{tmp_path}/joint"]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (entry_export, "save_entry"),
        pytest.param(entry_export, "load_supernet", marks=pytest.mark.slow),
        pytest.param(entry_export, "save_anchors", marks=pytest.mark.slow),
        (entry_export, "measured_indicators"),
        pytest.param(entry_export, "save_curves", marks=pytest.mark.slow),
        pytest.param(indicators, "evaluate", marks=pytest.mark.slow),
        (indicators, "seal_entry"),
    ],
)
def test_an_entry_that_was_cut_off_is_not_served_and_a_resumed_run_completes_it(
    joint_options, tmp_path, monkeypatch, capsys, module, name
):
    killed_in(monkeypatch, module, name, indicators.main, joint_options)
    model = f"local-dir:{tmp_path}/joint"
    with pytest.raises(ArtifactIntegrityError) as refused:
        limpq_hub.load(model, bitops="w4a4")
    assert str(refused.value) == f"{tmp_path}/joint/{ADVICE}"
    assert limpq(["info", model]) == 5
    assert limpq(["push", model, "you/x", "--dry-run", f"{tmp_path}/dry"]) == 5
    assert not (tmp_path / "dry").exists()
    indicators.main([*joint_options, "--resume"])
    assert {"anchors.json", "metrics.json", "float.safetensors"} <= set(find_entry(model).folder.files)
    assert find_entry(model).indicators.divergences
    assert not list((tmp_path / "joint").glob(".config*"))


def noting(monkeypatch: pytest.MonkeyPatch, module: object, measured: list[str], most: float = math.inf) -> None:
    """Note the digest of each policy that `module` measures, and die after `most` of them."""
    select = module.select_policy

    def noted(supernet: nn.Module, policy: Policy) -> nn.Module:
        if len(measured) == most:
            raise KeyboardInterrupt
        measured.append(policy.digest())
        return select(supernet, policy)

    monkeypatch.setattr(module, "select_policy", noted)


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_measures_goes_on_behind_the_policies_that_it_has_to_the_same_bits(
    runs, data, tmp_path, monkeypatch, capsys
):
    weights = ["--weights", f"{runs}/float/model.safetensors", "--distill", "0.5", "--calibrate-images", "8"]
    options = [*NETWORK, *RUN, "--data", str(data), *weights, "--max-steps", "1", "--anchor-gap", "20"]
    indicators.main([*options, "--output", f"{tmp_path}/whole"])
    cut = [*options, "--output", f"{tmp_path}/cut", "--resume"]
    of_alpha, of_anchors, of_pairs, again = [], [], [], []
    for module, measured in ((divergence, of_alpha), (anchors, of_anchors)):
        with monkeypatch.context() as patched:
            noting(patched, module, measured, most=2)
            with pytest.raises(KeyboardInterrupt):
                indicators.main(cut)
    kept = {path.name for path in (tmp_path / "cut").glob(".measured/*/*")}
    assert kept == {"divergences.json", *(f"{digest}.safetensors" for digest in of_anchors)}
    measure = pair_importance.pair_divergences

    def two_layers(*given, layers, **named):
        for done, of_layer in enumerate(measure(*given, layers=layers, **named)):
            if done == 2:
                raise KeyboardInterrupt
            of_pairs.append(of_layer[0])
            yield of_layer

    def noting_pairs(*given, layers, **named):
        again.extend(layers)
        return measure(*given, layers=layers, **named)

    with monkeypatch.context() as patched:
        patched.setattr(pair_importance, "pair_divergences", two_layers)
        with pytest.raises(KeyboardInterrupt):
            indicators.main(cut)
    monkeypatch.setattr(pair_importance, "pair_divergences", noting_pairs)
    noting(monkeypatch, divergence, again)
    noting(monkeypatch, anchors, again)
    indicators.main(cut)
    assert not {*again} & {*of_anchors, *of_pairs}
    same = ("supernet.safetensors", "anchors.safetensors", "anchors.json", "float.safetensors")
    for file in same:
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    whole, found = (find_entry(f"local-dir:{tmp_path}/{name}").indicators for name in ("whole", "cut"))
    assert found.alpha == whole.alpha
    assert found.provenance["kl_by_alpha"] == whole.provenance["kl_by_alpha"]
    assert (found.divergences, found.provenance["divergences"]) == (whole.divergences, whole.provenance["divergences"])
    assert again == list(whole.divergences)[2:]
    assert not (tmp_path / "cut/.measured").exists()


def test_pairs_that_cannot_be_measured_can_be_left_out_of_a_training_that_is_done(joint_options, tmp_path, monkeypatch):
    def diverged(*given: object, **named: object) -> None:
        raise TrainingError("the predictions are no numbers")

    with monkeypatch.context() as patched:
        patched.setattr(entry_export, "measured_indicators", diverged)
        with pytest.raises(
            TrainingError, match="^the predictions are no numbers; or leave the pairs out: --resume with"
        ):
            indicators.main(joint_options)
    indicators.main([*joint_options, "--resume", "--measure-images", "0"])
    assert not find_entry(f"local-dir:{tmp_path}/joint").indicators.divergences


def test_what_was_measured_of_another_network_or_on_other_images_is_not_taken(tmp_path):
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    images = [torch.zeros(1, 2), torch.ones(1, 2)]
    first = kept_measurements(tmp_path, one, other, images, "measured")
    (first / "divergences.json").write_text("{}")
    assert kept_measurements(tmp_path, one, other, images, "measured") == first
    assert (first / "divergences.json").exists()
    for others in [
        (other, other, images, "measured"),
        (one, one, images, "measured"),
        (one, other, images[::-1], "measured"),
        (one, other, images, "corrected"),
    ]:
        assert kept_measurements(tmp_path, *others) != first
        assert not first.exists()


def test_the_entry_of_an_earlier_run_is_not_served_while_a_later_one_replaces_it(joint_options, tmp_path, monkeypatch):
    indicators.main(joint_options)
    killed_in(monkeypatch, entry_export, "save_entry", indicators.main, [*joint_options, "--resume"])
    with pytest.raises(ArtifactIntegrityError, match="has not ended"):
        find_entry(f"local-dir:{tmp_path}/joint")


def test_a_checkpoint_that_was_cut_off_is_not_published(runs, data, tmp_path, monkeypatch):
    options = ["--model", f"local-dir:{runs}/joint", "--bitops", "w4a4", *RUN, "--data", str(data), "--max-steps", "1"]
    options += ["--calibrate-images", "8", "--output", f"{tmp_path}/w4a4"]
    killed_in(monkeypatch, finetune, "evaluate", finetune.main, options)
    made = ["--joint", f"{runs}/joint", "--checkpoint", f"w4a4={tmp_path}/w4a4", "--output", f"{tmp_path}/entry"]
    with pytest.raises(ArtifactIntegrityError) as refused:
        publish.main(made)
    assert str(refused.value) == f"{tmp_path}/w4a4/{ADVICE}"
    finetune.main([*options, "--resume"])
    assert "metrics.json" in open_local_folder(tmp_path / "w4a4", "checkpoint").files
