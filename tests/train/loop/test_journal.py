"""`metrics.jsonl`: each step once, however often a run was cut off; TensorBoard only where it is installed."""

from __future__ import annotations

import json
import math

import pytest
import torch
from accelerate import Accelerator
from number_runs import OneWeight, fit_to_numbers, number_settings, slope_one
from script_runs import journal_steps

from limpq_hub.errors import TrainingError
from limpq_hub.train.loop import run as _run
from limpq_hub.train.loop.journal import Journal


@pytest.fixture
def accelerator():
    return Accelerator(cpu=True)


def line(step: int) -> str:
    return json.dumps({"step": step, "loss": 1.5, "losses": [1.0, 2.0], "lr": 0.25}) + "\n"


def test_a_line_holds_the_step_its_rate_the_loss_of_each_pass_and_their_mean(accelerator, tmp_path):
    journal = Journal(accelerator, tmp_path, 0)
    journal.add(1, 0.25, torch.tensor([1.0, 2.0]))
    journal.add(2, 0.125, torch.tensor(3.0))
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    assert journal.flush() == 3.0
    first, second = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert first == {"step": 1, "loss": 1.5, "losses": [1.0, 2.0], "lr": 0.25}
    assert second == {"step": 2, "loss": 3.0, "losses": [3.0], "lr": 0.125}


def test_what_was_written_stays_and_is_written_once(accelerator, tmp_path):
    journal = Journal(accelerator, tmp_path, 0)
    for step in (1, 2, 3):
        journal.add(step, 0.25, torch.tensor([1.0, 2.0]))
        journal.flush()
    assert (tmp_path / "metrics.jsonl").read_text() == line(1) + line(2) + line(3)


@pytest.mark.parametrize("length", range(1, len(line(3)) - 1, 7))
def test_half_a_line_at_the_end_is_taken_out(accelerator, tmp_path, length):
    (tmp_path / "metrics.jsonl").write_text(line(1) + line(2) + line(3)[:length])
    Journal(accelerator, tmp_path, 3)
    assert (tmp_path / "metrics.jsonl").read_text() == line(1) + line(2)


def test_a_line_without_its_end_is_taken_out(accelerator, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(line(1) + line(2).rstrip("\n"))
    Journal(accelerator, tmp_path, 1)
    assert (tmp_path / "metrics.jsonl").read_text() == line(1)


def test_steps_after_the_restored_one_are_taken_out(accelerator, tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(map(line, range(1, 12))))
    journal = Journal(accelerator, tmp_path, 4)
    journal.add(5, 0.5, torch.tensor([7.0]))
    journal.flush()
    assert journal_steps(tmp_path) == [1, 2, 3, 4, 5]
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["loss"] == 7.0


def test_a_run_from_the_start_begins_an_empty_journal(accelerator, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(line(1))
    Journal(accelerator, tmp_path, 0)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_refused_with_its_step(accelerator, tmp_path, value):
    journal = Journal(accelerator, tmp_path, 0)
    journal.add(1, 0.25, torch.tensor([1.0, 2.0]))
    journal.add(2, 0.25, torch.tensor([1.0, value]))
    advice = "start again in another --output with a smaller --lr or more --warmup-epochs"
    message = f"^the loss of step 2 is not finite; {advice}$"
    with pytest.raises(TrainingError, match=message):
        journal.flush()
    Journal(accelerator, tmp_path, 0)
    assert journal_steps(tmp_path) == []


def test_a_state_of_a_run_whose_loss_is_not_finite_is_not_saved(tmp_path):
    words = ["--batch-size", "2", "--save-interval", "1"]
    rows = torch.ones(8, 1)

    def loss_of(model, images):
        return slope_one(model, images) / (model.weight.detach() < -0.15).logical_not()

    with pytest.raises(TrainingError, match="the loss of step 3 is not finite"):
        fit_to_numbers(number_settings(tmp_path / "out", *words), rows, OneWeight(), loss_of)
    assert [path.name for path in (tmp_path / "out/states").iterdir()] == ["step-00000002"]


def test_a_validation_is_noted_after_the_steps_before_it(accelerator, tmp_path, capsys):
    journal = Journal(accelerator, tmp_path, 0)
    journal.add(1, 0.25, torch.tensor([1.0, 2.0]))
    journal.note({"step": 1, "epochs": 1, "validation": {"top1": 50.0}})
    noted = json.dumps({"step": 1, "epochs": 1, "validation": {"top1": 50.0}}) + "\n"
    assert (tmp_path / "metrics.jsonl").read_text() == line(1) + noted
    assert capsys.readouterr().out == noted
    Journal(accelerator, tmp_path, 1)
    assert (tmp_path / "metrics.jsonl").read_text() == line(1) + noted
    Journal(accelerator, tmp_path, 0)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_a_process_that_is_not_the_main_one_writes_nothing(accelerator, tmp_path, monkeypatch):
    monkeypatch.setattr(type(accelerator), "is_main_process", property(lambda self: False))
    journal = Journal(accelerator, tmp_path, 0)
    journal.add(1, 0.25, torch.tensor([1.0]))
    assert journal.flush() == 1.0
    assert not (tmp_path / "metrics.jsonl").exists()


def test_tensorboard_files_are_written_where_it_is_installed(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = number_settings(tmp_path / "out", "--batch-size", "2")
    fit_to_numbers(settings, torch.ones(8, 1), OneWeight(), slope_one)
    events = EventAccumulator(str(tmp_path / "out/tensorboard")).Reload()
    written = [json.loads(text) for text in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    for tag, key in (("loss", "loss"), ("lr", "lr"), ("loss/pass 0", "loss")):
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        assert found == [(record["step"], pytest.approx(record[key])) for record in written], tag


def test_without_tensorboard_the_journal_is_the_same_and_no_folder_is_made(tmp_path, monkeypatch):
    for name, installed in (("with", True), ("without", False)):
        if not installed:
            monkeypatch.setattr(_run, "is_tensorboard_available", lambda: False)
        settings = number_settings(tmp_path / name, "--batch-size", "2")
        fit_to_numbers(settings, torch.ones(8, 1), OneWeight(), slope_one)
    assert not (tmp_path / "without/tensorboard").exists()
    texts = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("with", "without")]
    assert texts[0] == texts[1]
    assert texts[0].count("\n") == 4
