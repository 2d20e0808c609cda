"""Commands that the engine names: as a script in a checkout, as a module everywhere else, always quoted."""

from __future__ import annotations

import errno
import os
import runpy
import shlex
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from limpq_hub.train import launching
from limpq_hub.train.launching import command_line, command_of, torchrun_command

ROOT = Path(__file__).parents[2]
ALL = ("pretrain", "indicators", "finetune", "validate", "anchors", "front", "compare", "publish")


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A folder with a script in `training/`, in which the user stands."""
    (tmp_path / "training").mkdir()
    (tmp_path / "training/indicators.py").write_text("")
    (tmp_path / "training/publish.py").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("typed", ["training/indicators.py", "./training/indicators.py", "{}/training/indicators.py"])
def test_a_script_of_the_checkout_names_the_other_scripts(checkout, monkeypatch, typed):
    monkeypatch.setattr("sys.argv", [typed.format(checkout)])
    assert command_of("indicators", "--lr", "1") == "accelerate launch training/indicators.py --lr 1"
    assert command_of("publish") == "python training/publish.py"
    assert torchrun_command(2) == "ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 training/indicators.py"


@pytest.mark.parametrize("started", ["{package}/indicators.py", "-m", "-c", "", "elsewhere/indicators.py"])
def test_whatever_else_was_started_names_the_modules(checkout, monkeypatch, started):
    monkeypatch.setattr("sys.argv", [started.format(package=ROOT / "limpq_hub/train")])
    assert command_of("indicators") == "accelerate launch -m limpq_hub.train.indicators"
    assert command_of("publish") == "python -m limpq_hub.train.publish"


def test_several_processes_of_a_module_are_started_as_a_module(monkeypatch):
    monkeypatch.setattr("sys.argv", ["lib/limpq_hub/train/front.py"])
    assert torchrun_command(3) == "ACCELERATE_USE_CPU=true torchrun --nproc_per_node 3 -m limpq_hub.train.front"


def test_a_script_started_from_another_folder_names_the_modules(checkout, monkeypatch):
    monkeypatch.setattr("sys.argv", [str(checkout / "training/indicators.py")])
    monkeypatch.chdir(checkout / "training")
    assert command_of("indicators") == "accelerate launch -m limpq_hub.train.indicators"


def test_a_command_that_has_no_script_there_is_named_as_a_module(checkout, monkeypatch):
    monkeypatch.setattr("sys.argv", ["training/indicators.py"])
    assert command_of("pretrain") == "accelerate launch -m limpq_hub.train.pretrain"


def test_what_a_shell_would_split_or_expand_is_quoted(monkeypatch):
    monkeypatch.setattr("sys.argv", ["-m"])
    arguments = ["--output", "my nets/$x", "it's"]
    assert shlex.split(command_of("front", *arguments)) == [
        *("accelerate", "launch", "-m", "limpq_hub.train.front"),
        *arguments,
    ]


def test_the_command_of_a_resumed_run_is_that_of_its_start(monkeypatch):
    monkeypatch.setattr("sys.argv", ["-m", "--lr", "1", "--resume"])
    assert command_line("pretrain", None) == "accelerate launch -m limpq_hub.train.pretrain --lr 1"
    assert command_line("pretrain", ["--resume"]) == "accelerate launch -m limpq_hub.train.pretrain"


def started(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=120, cwd=ROOT)


@pytest.fixture
def started_here(monkeypatch, capsys) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """A function that runs what `started` runs, as the main module of this process, without the start of Python."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(ROOT)
        main = partial(runpy.run_path, words[0])
        if words[0] == "-m":
            words = words[1:]
            main = partial(runpy.run_module, words[0], alter_sys=True)
        monkeypatch.setattr("sys.argv", list(words))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'limpq_hub.train.* found in sys.modules", RuntimeWarning)
            with pytest.raises(SystemExit) as left:
                main(run_name="__main__")
        return subprocess.CompletedProcess(words, left.value.code, *capsys.readouterr())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(params=["started_here", pytest.param("started", marks=pytest.mark.slow)])
def started_either_way(request) -> Callable[..., subprocess.CompletedProcess[str]]:
    return started if request.param == "started" else request.getfixturevalue("started_here")


@pytest.mark.parametrize(
    ("words", "program"),
    [
        (("-m", "limpq_hub.train.indicators"), "accelerate launch -m limpq_hub.train.indicators"),
        (("training/publish.py",), "python training/publish.py"),
    ],
    ids=["module", "script"],
)
def test_help_and_usage_errors_begin_with_what_the_user_types(started_either_way, words, program):
    asked = started_either_way(*words, "--help")
    assert (asked.returncode or 0, asked.stdout.startswith(f"usage: {program} [-h]")) == (0, True)
    wrong = started_either_way(*words, "--no-such-option")
    assert wrong.returncode == 2
    usage, error = wrong.stderr.splitlines()
    assert usage == f"usage: {program} ...; --help lists what can be typed"
    assert error.startswith(f"{program}: error: the following arguments are required: ")


@pytest.mark.parametrize(
    ("words", "program"),
    [
        (("-m", "limpq_hub.train.publish"), "limpq_hub.train.publish"),
        (("training/publish.py",), "publish.py"),
    ],
    ids=["module", "script"],
)
def test_an_error_on_purpose_begins_with_the_name_of_what_runs(started_either_way, words, program):
    same = started_either_way(*words, "--joint", "here", "--output", "here")
    assert same.returncode == 3
    assert same.stderr == f"{program}: --output would replace --joint; choose another --output\n"


@pytest.mark.parametrize("words", [("-m", "limpq_hub.train.front"), ("training/front.py",)], ids=["module", "script"])
def test_a_package_that_is_missing_is_told_in_one_line_however_the_command_is_started(tmp_path, words):
    (tmp_path / "accelerate.py").write_text("raise ModuleNotFoundError('none here', name='accelerate')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, *words, "--help"], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    program = "limpq_hub.train.front" if words[0] == "-m" else "front.py"
    advice = 'accelerate is not installed; training and measuring need it: pip install "limpq-hub[train]"'
    assert (done.returncode, done.stderr) == (3, f"{program}: {advice}\n")


def test_every_command_has_a_script_and_the_other_way_round():
    assert {path.stem for path in (ROOT / "training").glob("*.py")} == set(ALL)


@pytest.fixture
def printing() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that starts a command which prints a line, its stdout at a descriptor, or closed if that is None."""
    code = "from limpq_hub.train.launching import run; run(lambda: print('figures'))"

    def start(stdout: int | None) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", code]
        if stdout is None:
            words = ["bash", "-c", '"$@" >&-', "bash", *words]
        return subprocess.run(words, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=120, cwd=ROOT)

    return start


def test_a_reader_that_goes_away_ends_a_command_without_a_word(printing):
    reader, writer = os.pipe()
    os.close(reader)
    done = printing(writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_below_what_is_printed_is_told_as_that(printing):
    with open("/dev/full", "w") as full:
        done = printing(full.fileno())
    assert done.returncode == 3
    assert done.stderr == "-c: what is printed cannot be written: No space left on device; send it elsewhere\n"


def test_a_closed_stdout_takes_what_is_printed(printing):
    done = printing(None)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EPIPE], ids=["files", "a pipe to another process"])
def test_an_error_of_the_system_that_is_not_of_printing_is_told_as_it_is(monkeypatch, capsys, number):
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("sys.argv", ["training/pretrain.py"])
    monkeypatch.setattr(launching, "handled_signals", list)
    with pytest.raises(SystemExit) as left:
        launching.run(fail)
    assert (left.value.code, capsys.readouterr().err) == (3, f"pretrain.py: {os.strerror(number)}\n")
