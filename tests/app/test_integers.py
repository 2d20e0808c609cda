"""Tests of the policy in integers beside the float network: what runs, what it says, and without OpenVINO."""

import html
import importlib.util
import re
import subprocess
import sys
from dataclasses import replace

import _zoo
import pytest
from _integers import IntegerNetworks, IntegerRun, Timed
from _model_cache import Networks
from _picture_actions import run_in_integers
from _picture_tables import integers_table
from _request import Request
from _zoo import entry_of, published_policy, searched_plan
from PIL import Image
from running_app import ROOT

from limpq_hub import load
from limpq_hub.pictures import read_picture, top_classes
from limpq_hub.plan.plan import Plan
from limpq_hub.zoo import catalog

pytestmark = pytest.mark.filterwarnings("ignore::limpq_hub.zoo.loading.NotFineTunedWarning")


@pytest.fixture
def small(tmp_path, monkeypatch, with_float) -> str:
    """The tiny entry with its float network, as the only bundled one."""
    (tmp_path / "bundled").mkdir()
    (tmp_path / "bundled" / "tiny.noise").symlink_to(with_float)
    monkeypatch.setattr(catalog, "BUNDLED", tmp_path / "bundled")
    _zoo._opened.cache_clear()
    yield "tiny.noise"
    _zoo._opened.cache_clear()


@pytest.fixture
def picture(tmp_path) -> str:
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "picture.png")
    return str(tmp_path / "picture.png")


def silent(share: float, text: str) -> None:
    """A report that nobody reads."""


def test_the_integers_of_any_bundled_entry_answer_as_their_simulation_whichever_runtime_computes_them(small, picture):
    pytest.importorskip("openvino")
    networks = Networks()
    run = run_in_integers(picture, Request(small, 0.05), IntegerNetworks(networks), silent)
    float_torch, integers_torch, float_file, integers_file = run.rows
    assert [row.integers for row in run.rows] == [False, True, False, True]
    assert integers_torch.answer == integers_file.answer
    assert integers_torch.probability == pytest.approx(integers_file.probability, abs=1e-3)
    assert float_torch.probability == pytest.approx(float_file.probability, abs=1e-4)
    assert integers_file.file_bytes < float_file.file_bytes
    assert all(row.milliseconds > 0 for row in run.rows)
    assert run.weights == "joint"
    assert "weights were read back, the same bit for bit; 100.00% of 24 pictures" in run.checked
    assert run.missing is None


def test_weights_that_were_fine_tuned_for_a_policy_are_what_runs(small, picture):
    plan = Plan.of_policy(entry_of(small).indicators, published_policy(small, "small"))
    with Image.open(picture) as opened:
        run = IntegerNetworks(Networks()).look(opened.convert("RGB"), small, plan, silent)
    model = load(small, policy=plan.policy, weights="finetuned", arithmetic="integer")
    guess = top_classes(model, read_picture(picture), 1)[0]
    assert run.in_float == (len(model.limpq.in_float), len(plan.policy.layers))
    assert run.in_float[0] < run.in_float[1], "some layers multiply integers"
    assert (run.weights, run.rows[1].answer) == ("finetuned", guess.name)
    assert run.rows[1].probability == pytest.approx(guess.probability, abs=1e-3)


def test_without_the_extra_torch_still_runs_in_integers_and_one_line_says_what_is_missing(small, picture, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find_spec(name))
    run = run_in_integers(picture, Request(small, 0.05), IntegerNetworks(Networks()), silent)
    assert [row.runtime.split()[0] for row in run.rows] == ["torch", "torch"]
    assert run.missing == ('format="openvino" needs openvino, which is not installed: pip install "limpq-hub[export]"')
    assert f"Not exported: {html.escape(run.missing)}." in integers_table(run)


def test_two_classes_of_one_name_are_two_answers_of_a_table():
    float_row = Timed("torch 2", False, 1.0, None, "crane (a)", "a", 0.7)
    rows = (float_row, replace(float_row, integers=True), replace(float_row, integers=True, class_id="b"))
    table = integers_table(IntegerRun(rows, "joint", 1000, (0, 1), None, None, 1, "a processor"))
    verdicts = re.findall(r"70%<br><span class='note'>(.*?)</span>", table)
    assert verdicts == ["", "same as float", "another than float"]


PRELOAD = """
import sys
sys.modules.update(dict.fromkeys(["onnx", "ml_dtypes", "onnxruntime", "openvino", "qonnx"]))
from app import FILLED, IntegerNetworks, Networks, preload, start_request
from _zoo import searched_plan
networks, request = Networks(), start_request()
integers = IntegerNetworks(networks)
preload(request, FILLED, networks, integers)
assert integers.has(request.model, searched_plan(request)), "the integers were not loaded"
"""


@pytest.mark.slow
def test_where_no_package_of_the_extra_is_installed_the_demo_starts_and_loads_the_integers_of_torch():
    command = [sys.executable, "-c", PRELOAD]
    done = subprocess.run(command, cwd=ROOT / "app", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_policy_is_exported_once_and_the_one_that_was_not_used_for_longest_goes_first(small, picture, monkeypatch):
    integers = IntegerNetworks(Networks(), most_bytes=0)
    first, second = (searched_plan(Request(small, budget)) for budget in (0.04, 0.06))
    prepared = []
    with Image.open(picture) as opened:
        image = opened.convert("RGB")
    for plan in (first, first, second):
        integers.look(image, small, plan, lambda share, text: prepared.append(text))
    assert prepared.count("Loading the networks") == 2
    assert integers.has(small, second)
    assert not integers.has(small, first)
