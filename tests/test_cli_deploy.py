"""Tests of `limpq export`, `measure-latency` and `predict` with integers: what is printed, written and refused."""

import csv
import json
import re
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from limpq_hub import search
from limpq_hub.plan.quantities import format_size
from limpq_hub.quant.integer_layers import has_vnni
from limpq_hub.zoo.seal import sealed

pytestmark = pytest.mark.skipif(
    not all(map(find_spec, ("onnx", "onnxruntime", "openvino", "qonnx"))), reason='needs the extra "export"'
)


@pytest.fixture
def pictures(tmp_path):
    """A folder of four pictures of noise."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(4):
        Image.fromarray(generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return folder


def test_an_export_is_told_with_its_figures_and_runs_in_predict(tiny, limpq, pictures, tmp_path):
    arguments = ["--bitops", "w3a3", "--output", tmp_path / "out", "--images", pictures, "--explain"]
    code, printed, _ = limpq("export", tiny.name, *arguments)
    assert code == 0
    weights = sum(cost.weights for cost in tiny.costs.values())
    assert f"{weights:,} weights read back, equal bit for bit" in printed
    assert "of 4 pictures within 0.0001, agreement 100.00%" in printed
    assert f"of {len(tiny.costs)} run in integers in OpenVINO" in printed
    assert "What the runtime does here" in printed
    assert re.search(r"^  verdict +OK: at least 90% of the pictures within 0\.0001 and ", printed, re.MULTILINE)
    picture = pictures / "0.png"
    size = format_size((tmp_path / "out/model.onnx").stat().st_size)
    code, printed, _ = limpq("predict", picture, "--exported", tmp_path / "out")
    assert code == 0
    assert f"test_resnet at 32 pixels with 10 classes, for openvino: {size}" in " ".join(printed.split())
    code, printed, _ = limpq("predict", picture, "--exported", tmp_path / "out", "--json")
    assert code == 0
    exported = json.loads(printed)["guesses"]
    code, printed, _ = limpq("predict", picture, "--model", tiny.name, "--bitops", "w3a3", "--json")
    simulated = json.loads(printed)["guesses"]
    assert [guess["id"] for guess in exported] == [guess["id"] for guess in simulated]
    assert exported[0]["probability"] == pytest.approx(simulated[0]["probability"], abs=1e-3)
    code, printed, told = limpq("predict", picture, "--model", f"local-dir:{tmp_path / 'out'}", "--bitops", "w3a3")
    assert (code, printed) == (5, "")
    assert (
        f"this is an exported network, and no entry: limpq predict PICTURE --exported {tmp_path / 'out'} runs" in told
    )


@pytest.mark.parametrize(
    ("said", "vnni", "is_told"),
    [
        ({"needs_vnni": True}, True, False),
        ({"needs_vnni": True}, False, True),
        ({"needs_vnni": False}, False, False),
        ({}, False, True),  # of an earlier version, which had integers alone unless it was asked
        ({"file_format": "onnxruntime"}, False, False),  # never exact, and measured as it is
    ],
)
def test_a_file_on_a_cpu_where_it_is_not_exact_is_told(
    tiny, limpq, pictures, tmp_path, monkeypatch, said, vnni, is_told
):
    assert limpq("export", tiny.name, "--bitops", "w3a3", "--output", tmp_path / "out", "--images", pictures)[0] == 0
    path = tmp_path / "out/verify.json"
    verification = json.loads(path.read_text())
    for key in ("needs_vnni", "config_sha256"):
        del verification[key]
    path.write_bytes(sealed(verification | said))
    monkeypatch.setattr("limpq_hub.deploy.exported_network.has_vnni", lambda: vnni)
    code, _, told = limpq("predict", pictures / "0.png", "--exported", tmp_path / "out")
    assert code == 0
    assert ("weights of 8 bits that the file holds as integers can overflow" in told) == is_told


@pytest.mark.parametrize("asked", [(), ("--no-vnni",)])
def test_an_export_says_where_this_cpu_decided_what_is_in_float(tiny, limpq, pictures, tmp_path, monkeypatch, asked):
    monkeypatch.setattr("limpq_hub.deploy.exporting.has_vnni", lambda: False)
    arguments = ["--bitops", "w3a3", "--output", tmp_path / "out", "--images", pictures, *asked]
    code, _, told = limpq("export", tiny.name, *arguments)
    assert code == 0
    assert not json.loads((tmp_path / "out/verify.json").read_text())["needs_vnni"]
    assert ("weights of 8 bits stay in float in the file" in told) == (not asked)


def test_an_export_with_vnni_does_not_speak_of_it(tiny, limpq, pictures, tmp_path):
    if not has_vnni():
        pytest.skip("this CPU has no VNNI")
    code, _, told = limpq("export", tiny.name, "--bitops", "w3a3", "--output", tmp_path / "out", "--images", pictures)
    assert code == 0
    assert json.loads((tmp_path / "out/verify.json").read_text())["needs_vnni"]
    assert "VNNI" not in told


def test_an_entry_in_the_place_of_an_export_is_told_as_one(tiny, limpq, pictures):
    code, _, told = limpq("predict", pictures / "0.png", "--exported", tiny.folder)
    assert code == 5
    assert f"it is an entry; give it as --model local-dir:{tiny.folder}\n" in told


def test_a_prediction_in_integers_is_the_simulated_one_and_says_what_is_simulated(tiny, limpq, pictures):
    arguments = ["predict", pictures / "0.png", "--model", tiny.name, "--bitops", "w3a3", "--json"]
    code, printed, told = limpq(*arguments, "--arithmetic", "integer")
    assert code == 0
    record = json.loads(printed)
    assert record["arithmetic"] == "integer"
    assert "is simulated: it is no plain 2-d convolution" in told
    simulated = json.loads(limpq(*arguments)[1])
    assert record["guesses"][0]["id"] == simulated["guesses"][0]["id"]
    assert record["guesses"][0]["probability"] == pytest.approx(simulated["guesses"][0]["probability"], abs=1e-3)


def test_bits_are_not_asked_of_an_exported_network(limpq, pictures, tmp_path):
    asked = (("--bitops", "3G"), ("--policy", "policy.json"), ("--weights", "joint"), ("--arithmetic", "integer"))
    for options in (*asked, ("--time-limit", "3")):
        code, _, told = limpq("predict", pictures / "0.png", "--exported", tmp_path, *options)
        assert code == 2
        assert "--exported has the bits and the weights that it was exported with: leave out budget, policy, " in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--count", "3"), "--count and --seed draw from the pictures of --images FOLDER: add it, or leave them out"),
        (("--seed", "0"), "--count and --seed draw from the pictures of --images FOLDER: add it, or leave them out"),
        (("--format", "qonnx", "--explain"), "--explain tells what a runtime runs, and --format qonnx is for hardware"),
    ],
)
def test_an_option_of_export_that_would_change_nothing_is_refused(limpq, tiny, tmp_path, options, message):
    code, _, told = limpq("export", tiny.name, "--bitops", "w3a3", "--output", tmp_path / "out", *options)
    assert code == 2
    assert message in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "needing"),
    [
        ("export resnet18 --bitops 3G --output out", "--format openvino"),
        ("measure-latency resnet18 --output out.csv", "--runtime openvino"),
    ],
)
@pytest.mark.parametrize(
    ("missing", "told"),
    [(["openvino"], "openvino, which is"), (["onnx", "openvino"], "onnx and openvino, which are")],
)
def test_what_is_not_installed_is_told_in_the_words_that_were_typed(
    limpq, monkeypatch, arguments, needing, missing, told
):
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *package: None if name in missing else find_spec(name, *package)
    )
    code, out, err = limpq(*arguments.split())
    message = f'{needing} needs {told} not installed: pip install "limpq-hub[export]"\n'
    assert (code, out, err) == (2, "", f"limpq {arguments.split()[0]}: {message}")


def test_a_damaged_export_is_an_error_of_its_own(tiny, limpq, pictures, tmp_path):
    code, _, told = limpq("predict", pictures / "0.png", "--exported", tmp_path)
    assert code == 5
    assert "is no exported network: verify.json cannot be read" in told


@pytest.mark.slow
def test_measured_times_are_a_budget(tiny, limpq, tmp_path):
    table = tmp_path / "table.csv"
    code, _, told = limpq("measure-latency", tiny.name, "--output", table, "--rounds", 2, "--threads", 1)
    assert code == 0
    assert "ms in all" in told
    lines = list(csv.DictReader(table.read_text().splitlines()))
    searched = [name for name, cost in tiny.costs.items() if cost.fixed is None]
    assert len(lines) == 9 * len(searched) + len(tiny.costs) - len(searched)
    assert {line["unit"] for line in lines} == {"ms"}
    assert all(line["cpu"] and line["runtime"].startswith("OpenVINO") for line in lines)
    times = {
        (line["layer"], int(line["weight_bits"]), int(line["activation_bits"])): float(line["time"]) for line in lines
    }
    most = sum(max(time for key, time in times.items() if key[0] == name) for name in tiny.costs)
    plan = search(tiny.indicators, latency=(table, f"{1.01 * most:.3f}ms"))
    assert sum(times[name, bits.weight, bits.activation] for name, bits in plan.policy.layers.items()) <= 1.01 * most


def test_a_folder_that_is_no_export_is_told_before_the_network_is_loaded(tiny, limpq, tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.setattr("limpq_hub.zoo.loading.load_entry", None)
    code, _, told = limpq("export", tiny.name, "--bitops", "w4a4", "--output", tmp_path)
    assert code == 2
    assert "holds 'notes.txt': it is no export, and would be lost; choose another folder" in told
