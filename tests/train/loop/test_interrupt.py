"""SIGTERM at any moment: exit code 75, one line on stderr, the step saved, and --resume to the same end."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import nullcontext

import pytest
import timm
import torch
from accelerate import Accelerator
from number_runs import OneWeight, fit_to_numbers, number_settings, slope_one
from safetensors.torch import load_file
from script_runs import TORCHRUN, TRAINING, journal_records, journal_steps, saved_step, script, sha256_of, started
from tiny_run import NETWORK, RUN

from limpq_hub.errors import LimpqError
from limpq_hub.train import entry_export as _export
from limpq_hub.train import indicators, pretrain
from limpq_hub.train.launching import run, run_command
from limpq_hub.train.loop import fit as _loop
from limpq_hub.train.loop import state as _state
from limpq_hub.train.loop.child_process import run_child
from limpq_hub.train.loop.interrupt import (
    RunInterruptedError,
    stop_at_once,
    stop_deferred,
    stop_without_resume,
)
from limpq_hub.train.loop.processes import reduce_gradients_
from limpq_hub.train.measure import evaluate as _evaluate
from limpq_hub.zoo.folder import open_local_folder

WHAT_NEXT = "SIGTERM: stopped; run the same command with --resume to go on"


@pytest.fixture(autouse=True)
def _handlers_restored():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    # What a shell starts in the background ignores Ctrl-C, and so would its tests and all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def terminate_myself(*arguments, **options) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def exit_code_of(main) -> int:
    with pytest.raises(SystemExit) as caught:
        run(main)
    return caught.value.code


def assert_ends_with_the_message(text: str, name: str) -> None:
    assert [line for line in text.splitlines() if "SIGTERM" in line] == [f"{name}: {WHAT_NEXT}"]
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("workers", "name"),
    [
        ("2", "pretrain"),
        pytest.param("0", "pretrain", marks=pytest.mark.slow),
        pytest.param("0", "indicators", marks=pytest.mark.slow),
        pytest.param("2", "indicators", marks=pytest.mark.slow),
    ],
)
def test_a_script_that_gets_sigterm_saves_the_step_it_is_at_and_can_be_resumed(request, data, tmp_path, name, workers):
    options = [*NETWORK, *RUN, "--data", str(data), "--epochs", "6", "--save-interval", "3"]
    if name == "indicators":
        runs = request.getfixturevalue("runs")
        options += ["--weights", f"{runs}/float/model.safetensors", "--anchor-gap", "99"]
        options += ["--calibrate-images", "16", "--uniform", "highest"]
    module, weights = (pretrain, "model.safetensors") if name == "pretrain" else (indicators, "supernet.safetensors")
    output = tmp_path / "out"
    with started([script(name)], output, *options, "--workers", workers) as running:
        assert running.reaches(3), running.said()
        # To the whole group, as a terminal or a batch system sends it.
        os.killpg(running.process.pid, signal.SIGTERM)
        assert running.ends() == 75, running.said()
    assert_ends_with_the_message(running.said(), f"{name}.py")
    step = saved_step(output)
    assert 3 < step < 24
    assert journal_steps(output) == list(range(1, step + 1))
    open_local_folder(output / f"states/step-{step:08d}", "state").read("state.safetensors")
    module.main([*options, "--output", str(output), "--resume"])
    module.main([*options, "--output", str(tmp_path / "whole")])
    assert sha256_of(output / weights) == sha256_of(tmp_path / "whole" / weights)
    assert journal_steps(output) == list(range(1, 25))


@pytest.mark.slow
def test_sigterm_ends_a_run_long_before_its_end(data, tmp_path):
    options = [*NETWORK, *RUN, "--data", str(data), "--epochs", "400", "--save-interval", "5"]
    with started([script("pretrain")], tmp_path / "out", *options) as running:
        assert running.reaches(5), running.said()
        running.process.terminate()
        assert running.process.wait(timeout=120) == 75
    assert journal_steps(tmp_path / "out")[-1] == saved_step(tmp_path / "out")


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step_and_save_it_once(data, tmp_path):
    options = [*NETWORK, *RUN, "--data", str(data), "--epochs", "400", "--save-interval", "3"]
    output = tmp_path / "out"
    with started([*TORCHRUN, "2", script("pretrain")], output, *options) as running:
        assert running.reaches(3), running.said()
        os.killpg(running.process.pid, signal.SIGTERM)
        running.ends()
    assert running.said().count(f"pretrain.py: {WHAT_NEXT}") == 2
    step = saved_step(output)
    assert step > 3
    assert journal_steps(output) == list(range(1, step + 1))


@pytest.mark.parametrize(
    ("place", "function"),
    [
        ("while it opens the data", (pretrain, "class_records")),
        ("while it builds the network", (timm, "create_model")),
        ("while it measures the loader", (_loop, "loader_speed")),
        ("during the evaluation", (_evaluate.torch.Tensor, "topk")),
        ("while it writes the result", (pretrain, "write_bytes")),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_sigterm_outside_of_the_training_stops_at_once(data, tmp_path, monkeypatch, capsys, place, function):
    options = [*NETWORK, *RUN, "--data", str(data), "--max-steps", "2", "--output", str(tmp_path / "out")]
    called = []

    def terminate(*arguments, **keywords):
        called.append(place)
        terminate_myself()
        raise AssertionError("SIGTERM did not stop it")

    monkeypatch.setattr(*function, terminate)
    monkeypatch.setattr("sys.argv", ["training/pretrain.py"])
    assert exit_code_of(lambda: pretrain.main(options)) == 75
    assert called == [place]
    assert_ends_with_the_message(capsys.readouterr().err, "pretrain.py")
    monkeypatch.undo()
    pretrain.main([*options, "--resume"])
    pretrain.main([*options[:-1], str(tmp_path / "whole")])
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "out"))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.slow
def test_sigterm_during_the_export_of_the_indicators_can_be_resumed(runs, data, tmp_path, monkeypatch):
    options = [*NETWORK, *RUN, "--data", str(data), "--max-steps", "2", "--weights", f"{runs}/float/model.safetensors"]
    options += ["--anchor-gap", "99", "--calibrate-images", "16"]
    monkeypatch.setattr(_export, "save_anchors", terminate_myself)
    assert exit_code_of(lambda: indicators.main([*options, "--output", str(tmp_path / "out")])) == 75
    monkeypatch.undo()
    indicators.main([*options, "--output", str(tmp_path / "out"), "--resume"])
    indicators.main([*options, "--output", str(tmp_path / "whole")])
    for file in ("supernet.safetensors", "curves.png"):
        assert sha256_of(tmp_path / "out" / file) == sha256_of(tmp_path / "whole" / file)


def test_sigterm_while_the_last_step_is_saved_stops(tmp_path, monkeypatch):
    write_bytes = _state.write_bytes

    def write_and_terminate(*arguments):
        write_bytes(*arguments)
        terminate_myself()

    monkeypatch.setattr(_state, "write_bytes", write_and_terminate)
    settings = number_settings(tmp_path / "out", "--batch-size", "2")
    with pytest.raises(RunInterruptedError):
        fit_to_numbers(settings, torch.ones(8, 1), OneWeight(), slope_one)


def test_sigterm_within_a_step_ends_after_it_whatever_the_save_interval(tmp_path):
    settings = number_settings(tmp_path / "out", "--batch-size", "2", "--save-interval", "1000")
    with pytest.raises(RunInterruptedError, match=f"^{WHAT_NEXT}$"):
        fit_to_numbers(
            settings,
            torch.ones(8, 1),
            OneWeight(),
            slope_one,
            each=lambda position: terminate_myself() if position.step == 1 else None,
        )
    assert saved_step(tmp_path / "out") == 2
    assert journal_steps(tmp_path / "out") == [1, 2]


@pytest.mark.parametrize("average", [(), ("--ema", "0.9")], ids=["plain", "ema"])
def test_sigterm_in_the_last_step_of_an_epoch_leaves_its_validation_to_the_resumed_run(tmp_path, average):
    words = ["--batch-size", "2", "--epochs", "3", "--validate-epochs", "1", *average]

    def trained(name: str, *resume: str, stop_in: int | None = None) -> tuple[float, list[dict]]:
        model, settings = OneWeight(), number_settings(tmp_path / name, *words, *resume)
        with nullcontext() if stop_in is None else pytest.raises(RunInterruptedError):
            fit_to_numbers(
                settings,
                torch.arange(8.0)[:, None],
                model,
                slope_one,
                each=lambda position: terminate_myself() if position.step == stop_in else None,
                validate=lambda copied: {"top1": copied.weight.item()},
            )
        return model.weight.item(), journal_records(tmp_path / name)

    weight, records = trained("whole")
    assert [record["step"] for record in records if "validation" in record] == [4, 8]
    _, before = trained("cut", stop_in=3)
    assert (saved_step(tmp_path / "cut"), before) == (4, records[:4])
    assert trained("cut", "--resume", stop_in=7)[1] == records[:9]
    assert trained("cut", "--resume") == (weight, records)


def test_a_second_sigterm_while_the_state_is_written_does_not_tear_it(tmp_path, monkeypatch):
    write_bytes = _state.write_bytes

    def terminate_and_write(*arguments):
        terminate_myself()
        write_bytes(*arguments)

    monkeypatch.setattr(_state, "write_bytes", terminate_and_write)
    settings = number_settings(tmp_path / "out", "--batch-size", "2", "--save-interval", "2")
    with pytest.raises(RunInterruptedError):
        fit_to_numbers(settings, torch.ones(8, 1), OneWeight(), slope_one)
    assert saved_step(tmp_path / "out") == 3
    open_local_folder(tmp_path / "out/states/step-00000003", "state").read("state.safetensors")


def test_the_handler_of_before_is_back_after_the_training():
    signal.signal(signal.SIGTERM, stop_at_once)
    with stop_deferred() as stop:
        assert not stop.made
        terminate_myself()
        assert stop.made
    assert signal.getsignal(signal.SIGTERM) is stop_at_once
    with pytest.raises(RunInterruptedError, match=f"^{WHAT_NEXT}$"):
        terminate_myself()


def test_ctrl_c_within_a_step_saves_it_and_says_how_to_go_on(tmp_path):
    settings = number_settings(tmp_path / "out", "--batch-size", "2", "--save-interval", "1000")
    with pytest.raises(RunInterruptedError, match="^Ctrl-C: stopped; run the same command with --resume to go on$"):
        fit_to_numbers(
            settings,
            torch.ones(8, 1),
            OneWeight(),
            slope_one,
            each=lambda position: os.kill(os.getpid(), signal.SIGINT) if position.step == 1 else None,
        )
    assert saved_step(tmp_path / "out") == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
def test_ctrl_c_of_a_whole_terminal_ends_a_script_as_sigterm_does(data, tmp_path):
    options = [*NETWORK, *RUN, "--data", str(data), "--epochs", "400", "--save-interval", "5"]
    with started([script("pretrain")], tmp_path / "out", *options, "--workers", "2") as running:
        assert running.reaches(5), running.said()
        os.killpg(running.process.pid, signal.SIGINT)
        assert running.process.wait(timeout=120) == 75
    assert "pretrain.py: Ctrl-C: stopped; run the same command with --resume to go on" in running.said()
    assert "Traceback" not in running.said()
    assert journal_steps(tmp_path / "out")[-1] == saved_step(tmp_path / "out")


@pytest.mark.parametrize("name", ["anchors", "front", "validate", "compare", "publish"])
@pytest.mark.parametrize(("number", "named"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_a_command_without_resume_does_not_speak_of_it(monkeypatch, capsys, name, number, named):
    monkeypatch.setattr("sys.argv", [str(TRAINING / f"{name}.py")])
    assert exit_code_of(lambda: os.kill(os.getpid(), number)) == 75
    assert capsys.readouterr().err == f"{name}.py: {named}: stopped; run the same command to go on\n"
    assert signal.getsignal(number) is stop_without_resume


def test_what_a_shell_starts_in_the_background_goes_on_ignoring_ctrl_c(tmp_path):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stop_deferred() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert not stop.made
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_one_process_stops_when_it_is_asked():
    assert reduce_gradients_(Accelerator(cpu=True), [], stop=True) is True
    assert reduce_gradients_(Accelerator(cpu=True), [], stop=False) is False


@pytest.mark.parametrize(
    ("error", "code"), [(LimpqError("wrong"), 2), (OSError("wrong"), 3), (RunInterruptedError("wrong"), 75)]
)
def test_an_error_on_purpose_is_one_line_and_its_exit_code(monkeypatch, capsys, error, code):
    def fail():
        raise error

    monkeypatch.setattr("sys.argv", [str(TRAINING / "pretrain.py")])
    assert exit_code_of(fail) == code
    assert capsys.readouterr().err == "pretrain.py: wrong\n"


@pytest.mark.parametrize(
    ("name", "advice"),
    [("pretrain", "; run the same command with --resume to go on"), ("validate", "")],
)
def test_ctrl_c_is_one_line_that_says_how_to_go_on(monkeypatch, capsys, name, advice):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", [str(TRAINING / f"{name}.py")])
    assert exit_code_of(interrupted) == 130
    assert capsys.readouterr().err == f"{name}.py: interrupted{advice}\n"


@pytest.mark.parametrize(
    ("there", "advice"),
    [
        (None, "nothing was saved yet: the same command starts anew"),
        ("options.json", "nothing was saved yet: the same command with --resume starts anew"),
        ("states/step-00000007", "run the same command with --resume to go on"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_stopped_says_whether_anything_was_saved(monkeypatch, capsys, tmp_path, there, advice, number):
    if there:
        (tmp_path / "out" / there).mkdir(parents=True)
    for output in (["--output", f"{tmp_path}/out"], [f"--output={tmp_path}/out"]):
        monkeypatch.setattr("sys.argv", [str(TRAINING / "finetune.py"), *output, "--epochs", "3"])
        assert exit_code_of(lambda: os.kill(os.getpid(), number)) == 75
        assert capsys.readouterr().err.endswith(f": stopped; {advice}\n")


def test_ctrl_c_while_a_command_loads_says_that_nothing_was_saved(monkeypatch, capsys, tmp_path):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", [str(TRAINING / "finetune.py"), "--output", str(tmp_path / "out")])
    monkeypatch.setattr("importlib.import_module", interrupted)
    with pytest.raises(SystemExit) as left:
        run_command("finetune")
    assert left.value.code == 130
    said = "finetune.py: interrupted; nothing was saved yet: the same command starts anew\n"
    assert capsys.readouterr().err == said


def test_a_worker_that_dies_is_one_line(monkeypatch, capsys):
    def fail():
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    monkeypatch.setattr("sys.argv", [str(TRAINING / "finetune.py")])
    assert exit_code_of(fail) == 3
    assert capsys.readouterr().err == (
        "finetune.py: a process that decodes pictures died: DataLoader worker (pid 7) is killed by signal: Killed. use "
        "fewer --workers if the memory ran out, and --resume to go on\n"
    )


def test_an_error_that_is_none_on_purpose_keeps_its_traceback():
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(fail)


# It takes a while to end after a signal, and then says by which ones it was asked.
SAVING_CHILD = """
import pathlib, signal, sys, time
asked = []
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: asked.append(signal.Signals(number).name))
folder = pathlib.Path(sys.argv[1])
(folder / "started").touch()
while not asked:
    time.sleep(0.01)
time.sleep(0.5)
(folder / "saved").write_text(" ".join(asked))
sys.exit(75)
"""


@pytest.mark.parametrize(
    ("number", "reached", "passed_on", "said"),
    [
        (signal.SIGTERM, os.kill, "SIGTERM", "SIGTERM"),
        (signal.SIGINT, os.killpg, "SIGINT", "Ctrl-C"),
        (signal.SIGINT, os.kill, "SIGTERM", "Ctrl-C"),
    ],
)
def test_a_child_that_is_waited_for_saves_before_its_parent_stops(tmp_path, number, reached, passed_on, said):
    # As a terminal sends Ctrl-C to all of a group, and a person a signal to one process.
    parent = tmp_path / "parent.py"
    parent.write_text(
        "import os, signal, sys\n"
        "from limpq_hub.train.launching import run\n"
        "from limpq_hub.train.loop.child_process import run_child\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"run(lambda: run_child([sys.executable, '-c', {SAVING_CHILD!r}, {str(tmp_path)!r}]))\n"
    )
    with started([str(parent)], tmp_path / "out") as running:
        assert running.wait_until((tmp_path / "started").exists), running.said()
        reached(running.process.pid, number)
        assert running.ends() == 75
        assert (tmp_path / "saved").read_text() == passed_on
    assert running.said() == f"parent.py: {said}: stopped; run the same command to go on\n"


def test_the_exit_code_of_a_child_is_returned():
    assert run_child([sys.executable, "-c", "import sys; sys.exit(3)"]) == 3
    assert run_child([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) == -9
