"""What a run leaves behind when it is killed while it exports and measures is no entry and no checkpoint."""

from __future__ import annotations

import pytest
from tiny_run import NETWORK, RUN

import limpq_hub
from limpq_hub.cli import main as limpq
from limpq_hub.errors import ArtifactIntegrityError
from limpq_hub.train import entry_export, finetune, indicators, publish
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
    assert not list((tmp_path / "joint").glob(".config*"))


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
