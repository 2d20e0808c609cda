"""What anchors.py makes of an entry: BatchNorm statistics along the frontier of its search, and nothing else."""

import json
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from tiny_run import RUN

from limpq_hub.errors import ArtifactError, ArtifactFormatError, DataError, TrainingError
from limpq_hub.quant.batch_norm_calibration import recalibrate_batch_norm_
from limpq_hub.quant.convert import select_policy
from limpq_hub.train import anchors, front, publish
from limpq_hub.train.data.loaders import calibration_batches
from limpq_hub.zoo import anchors as stored
from limpq_hub.zoo.anchors import anchor_policies, statistics_of_entry
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_folder import load_supernet
from limpq_hub.zoo.network import NetworkSpec

GAP = ["--anchor-gap", "12", "--calibrate-images", "16", "--workers", "0", "--threads", "1"]
# What a statistic in half precision may be off.
HALF = {"rtol": 2e-3, "atol": 2e-3}


@pytest.fixture(scope="module")
def chosen(runs, tmp_path_factory):
    """The entry with a front and a policy, after its search was chosen anew: steps coupled, bits of a layer equal."""
    folder = tmp_path_factory.mktemp("chosen") / "entry"
    publish.main(["--joint", f"{runs}/entry", "--importance", "coupled", "--apart", "0", "--output", str(folder)])
    return folder


def measured_by(folder, data, output) -> list[str]:
    return ["--model", f"local-dir:{folder}", "--data", str(data), *GAP, "--output", str(output)]


def test_statistics_are_those_of_the_policies_that_the_search_of_the_entry_finds(chosen, hard_data, tmp_path, capsys):
    anchors.main(measured_by(chosen, hard_data, tmp_path / "new"))
    entry = find_entry(f"local-dir:{tmp_path}/new")
    policies = anchor_policies(entry.indicators, 12)
    made = json.loads((tmp_path / "new/anchors.json").read_text())
    assert made["policies"] == [policy.to_json() for policy in policies]
    assert made["policies"] != json.loads((chosen / "anchors.json").read_text())["policies"]
    settings = anchors.parse_options(measured_by(chosen, hard_data, tmp_path / "new"))
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    images = calibration_batches(settings.data, spec, 16)
    supernet = load_supernet(entry.folder, entry.indicators)
    for policy in policies[-2:]:
        network = select_policy(supernet, policy)
        recalibrate_batch_norm_(network, images)
        served = select_policy(supernet, policy)
        stored.apply_nearest_anchors_(served, policy, entry.folder, {})
        for (name, expected), found in zip(network.named_buffers(), served.buffers(), strict=True):
            if name.endswith(("running_mean", "running_var")):
                torch.testing.assert_close(found, expected, **HALF, msg=name)
    count = len(policies)
    said = capsys.readouterr().out.splitlines()
    assert said[-2] == f"{tmp_path}/new: BatchNorm statistics of {count} policies, on 16 images each"
    assert said[-1] == (
        "next, what the joint weights reach with them: accelerate launch -m limpq_hub.train.front --model "
        f"local-dir:{tmp_path}/new --data {hard_data} --workers 0 --threads 1 --output {tmp_path}/new-front.json"
    )


def test_all_else_of_the_entry_stays_but_the_front_of_the_old_statistics(runs, hard_data, tmp_path):
    assert find_entry(f"local-dir:{runs}/entry").metrics["joint"]
    anchors.main(measured_by(runs / "entry", hard_data, tmp_path / "new"))
    before = {path.relative_to(runs / "entry") for path in (runs / "entry").rglob("*") if path.is_file()}
    for file in before:
        same = (tmp_path / "new" / file).read_bytes() == (runs / "entry" / file).read_bytes()
        assert same == (
            file.name not in {"anchors.json", "anchors.safetensors", "metrics.json", "config.json"}
            or (file.parts[0] == "policies")
        ), file
    entry = find_entry(f"local-dir:{tmp_path}/new")
    assert entry.metrics == {"joint": [], "float": find_entry(f"local-dir:{runs}/entry").metrics["float"]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]


def test_a_run_that_was_cut_off_goes_on_with_what_it_measured(chosen, hard_data, tmp_path, monkeypatch):
    anchors.main(measured_by(chosen, hard_data, tmp_path / "whole"))
    selected, select = [], stored.select_policy

    def cut_off(supernet, policy):
        selected.append(policy.digest())
        if len(selected) == 3:
            raise KeyboardInterrupt
        return select(supernet, policy)

    monkeypatch.setattr(stored, "select_policy", cut_off)
    with pytest.raises(KeyboardInterrupt):
        anchors.main(measured_by(chosen, hard_data, tmp_path / "cut"))
    assert not (tmp_path / "cut").exists()
    first, selected[:] = selected[:2], []
    selected += [""] * 3  # it is not cut off again
    anchors.main(measured_by(chosen, hard_data, tmp_path / "cut"))
    assert not {*first} & {*selected}
    whole, cut = (find_entry(f"local-dir:{tmp_path}/{name}").folder for name in ("whole", "cut"))
    assert cut.read("anchors.safetensors") == whole.read("anchors.safetensors")
    assert cut.read_json("anchors.json")["policies"] == whole.read_json("anchors.json")["policies"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "whole"]


def test_the_entry_itself_is_not_replaced_and_nothing_is_half_done(chosen, hard_data, tmp_path):
    with pytest.raises(TrainingError, match="^--output would replace --model; choose another --output$"):
        anchors.main(measured_by(chosen, hard_data, chosen))
    with pytest.raises(DataError, match="nowhere"):
        anchors.main(measured_by(chosen, tmp_path / "nowhere", tmp_path / "new"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=re.escape(f"{tmp_path}/mine")):
        anchors.main(measured_by(chosen, hard_data, tmp_path / "mine"))
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["mine", "mine/notes.txt"]


def test_the_current_folder_is_filled_where_it_is_empty(chosen, hard_data, tmp_path, monkeypatch, capsys):
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path / "new")
    anchors.main(measured_by(chosen, hard_data, "."))
    assert find_entry(f"local-dir:{tmp_path}/new").indicators == find_entry(f"local-dir:{chosen}").indicators
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .endswith(f"--model local-dir:. --data {hard_data} --workers 0 --threads 1 --output {tmp_path}/new-front.json")
    )
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_network_without_batch_norm_has_nothing_to_measure(chosen, hard_data, tmp_path, monkeypatch):
    monkeypatch.setattr(anchors, "active_batch_norms", lambda supernet: {})
    with pytest.raises(TrainingError, match=r"has no BatchNorm, so its joint weights serve any policy as they are$"):
        anchors.main(measured_by(chosen, hard_data, tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []


def test_several_processes_are_refused_with_what_starts_one(chosen, hard_data, tmp_path, monkeypatch):
    monkeypatch.setattr(anchors, "new_accelerator", lambda device: SimpleNamespace(num_processes=2))
    with pytest.raises(TrainingError) as refused:
        anchors.main(measured_by(chosen, hard_data, tmp_path / "new"))
    told = "anchors runs as one process: start it with python -m limpq_hub.train.anchors"
    assert str(refused.value) == told


def test_statistics_that_were_corrected_are_corrected_again(chosen, hard_data, tmp_path, reseal):
    folder = shutil.copytree(chosen, tmp_path / "entry")
    content = json.loads((folder / "anchors.json").read_text()) | {"statistics": "corrected"}
    (folder / "anchors.json").write_text(json.dumps(content))
    reseal(folder)
    anchors.main(measured_by(folder, hard_data, tmp_path / "corrected"))
    anchors.main(measured_by(chosen, hard_data, tmp_path / "measured"))
    corrected, measured = (find_entry(f"local-dir:{tmp_path}/{name}").folder for name in ("corrected", "measured"))
    assert [statistics_of_entry(folder) for folder in (corrected, measured)] == ["corrected", "measured"]
    assert corrected.read("anchors.safetensors") != measured.read("anchors.safetensors")


def test_an_entry_without_figures_stays_one(chosen, hard_data, tmp_path, reseal):
    folder = shutil.copytree(chosen, tmp_path / "entry")
    (folder / "metrics.json").unlink()
    reseal(folder)
    anchors.main(measured_by(folder, hard_data, tmp_path / "new"))
    assert find_entry(f"local-dir:{tmp_path}/new").metrics == {}
    publish.main(["--joint", f"{tmp_path}/new", "--output", f"{tmp_path}/published"])
    assert find_entry(f"local-dir:{tmp_path}/published").metrics == {}


def test_what_is_along_another_search_is_told_until_it_is_measured(chosen, hard_data, tmp_path, capsys):
    anchors.main(measured_by(chosen, hard_data, tmp_path / "new"))
    made = json.loads((tmp_path / "new/anchors.json").read_text())
    assert made["search"] == {"objective": "coupled", "apart": 0}
    assert made["provenance"]["command"].startswith("python -m limpq_hub.train.anchors --model local-dir:entry --data ")
    for joint, options, told in (
        (chosen, [], True),
        (chosen, ["--importance", "learned"], False),  # along which a joint training measures them
        (tmp_path / "new", [], False),
        (tmp_path / "new", ["--apart", "1"], True),
    ):
        capsys.readouterr()
        publish.main(["--joint", str(joint), *options, "--output", f"{tmp_path}/published"])
        assert ("note: the BatchNorm statistics lie along another search" in capsys.readouterr().out) == told


def test_a_front_is_of_the_statistics_and_of_the_search_that_it_was_measured_with(chosen, hard_data, tmp_path):
    anchors.main(measured_by(chosen, hard_data, tmp_path / "new"))
    words = ["--bitops", "w3a3", "--calibrate-images", "0", "--data", str(hard_data), *RUN]
    front.main(["--model", f"local-dir:{tmp_path}/new", *words, "--output", f"{tmp_path}/front.json"])
    measured = ["--front", f"{tmp_path}/front.json", "--output", f"{tmp_path}/entry"]
    publish.main(["--joint", f"{tmp_path}/new", *measured])
    served = find_entry(f"local-dir:{tmp_path}/entry")
    assert served.metrics["joint"] == json.loads((tmp_path / "front.json").read_text())["joint"]
    told = re.escape(
        f"the front was measured with other BatchNorm statistics than those of {chosen}; measure it with: "
    )
    with pytest.raises(ArtifactFormatError, match=f"^{told}"):
        publish.main(["--joint", str(chosen), *measured])
    for options in (["--importance", "learned"], ["--apart", "1"]):
        with pytest.raises(ArtifactFormatError) as refused:
            publish.main(["--joint", f"{tmp_path}/new", *measured, *options])
        assert str(refused.value) == (
            "the front lies along another search than that of the entry to be published; publish that one without a "
            "front, then measure its own"
        )
