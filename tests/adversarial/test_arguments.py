"""What is typed at the `limpq` command: whatever it is, one line says what is wrong, and advice that is given works."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from limpq_hub import cli, search
from limpq_hub.cli.faults import FAULT
from limpq_hub.errors import BudgetError, InfeasibleBudgetError, LimpqError
from limpq_hub.plan.budget import Budget, typed_limits
from limpq_hub.plan.constraints import KINDS
from limpq_hub.plan.constraints.layer_table import LayerTableKind
from limpq_hub.plan.quantities import allowed_gap
from limpq_hub.train import indicators, publish
from limpq_hub.train.pretrain import _next_command
from limpq_hub.train.push import publishing_command
from limpq_hub.train.settings import DataSettings, NetworkSettings

ROOT = Path(__file__).parents[2]
WORDS = (
    "", " ", "3", "3G", "3 G", "3g", "2.5e9", "1e999", "-1", "nan", "inf", "0", "9" * 400, "x" * 5000, "é", "３G",
    "\x1b[2J", "w4a4", "w9a9", "12.2x", "1%", "101%", "4.5MB", "layer1.*=4,4", "*=9,9", "=,", "*=", "²", "*=²,²", "--",
    "../..", ".", "/dev/null", "resnet18", "hf-hub:a/b", "local-dir:", "\ud800",
)  # fmt: skip
OPTIONS = {
    "search": (
        "--bitops", "--size", "--compression", "--activation-memory", "--alpha", "--candidates", "--pin", "--exclude",
        "--tie", "--time-limit", "--allow-gap", "--json",
    ),
    "frontier": ("--points", "--size", "--alpha", "--candidates", "--time-limit", "--allow-gap", "--json"),
    "compare": ("--bitops", "--size", "--seed", "--alpha", "--time-limit", "--allow-gap", "--counting", "--json"),
    "explain": ("--bitops", "--compression", "--pin", "--tie", "--time-limit", "--allow-gap", "--json"),
    "list": ("--json",),
    "info": ("--json",),
}  # fmt: skip


def answered(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    try:
        code = cli.main(arguments)
    except SystemExit as stop:  # argparse
        code = int(stop.code or 0)
    return code, *capsys.readouterr()


def drawn_arguments(seed: int) -> list[str]:
    rng = random.Random(seed)
    command = rng.choice(list(OPTIONS))
    arguments = [command, rng.choice(("resnet18", *WORDS))] if rng.random() < 0.2 else [command, "resnet18"]
    if command in ("search", "compare", "explain") and rng.random() < 0.7:
        arguments += ["--bitops", rng.choice(("3G", "w3a3", "2.5e9"))]
    for option in rng.sample(OPTIONS[command], min(rng.randint(0, 3), len(OPTIONS[command]))):
        arguments += [option] if option == "--json" else [option, rng.choice(WORDS)]
    return arguments


def check_answer(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = answered(arguments, capsys)
    assert code in (0, 2, 3, 5, 6), (arguments, err)
    assert "Traceback" not in err
    if code and not err.startswith("usage: "):
        assert out == ""
        (line,) = [line for line in err.splitlines() if not line.startswith("note: ")]
        assert line.startswith(f"limpq {arguments[0]}: ")
        assert len(line) < 2000


def test_whatever_is_typed_is_answered_or_refused_in_one_line(capsys):
    for seed in range(250):
        check_answer(drawn_arguments(seed), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_very_much_of_what_can_be_typed_is_answered_or_refused_in_one_line(block, capsys):
    for seed in range(10_000 + 500 * block, 10_500 + 500 * block):
        check_answer(drawn_arguments(seed), capsys)


def refusal(kind, value) -> str:
    with pytest.raises(BudgetError) as caught:
        kind.parse(value)
    return str(caught.value)


@pytest.mark.parametrize(
    "kind",
    [kind for kind in KINDS if kind.units and not isinstance(kind, LayerTableKind)],  # a table stands before a limit
    ids=lambda kind: kind.name,
)
@pytest.mark.parametrize("value", ["", "?", "3??", "nan", "0", -1, True, None, "3 parsecs"])
def test_every_example_in_a_refusal_is_taken_by_the_option_that_refuses(kind, value):
    examples = re.findall(r'"([^"]+)"|(?<= or )([0-9.e]+)|, ([0-9.e]+),', refusal(kind, value).partition("use for")[2])
    texts = [text for example in examples for text in example if text]
    assert len(texts) >= 2
    for text in texts:
        Budget(**{kind.name: text})
        assert typed_limits({kind.name: text}) == {kind.name: text}


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if not isinstance(kind, LayerTableKind)], ids=lambda kind: kind.name
)
def test_every_example_in_the_help_of_a_limit_is_taken(kind):
    examples = re.findall(r"\b(?:[0-9][0-9.]*(?:e[0-9]+|[A-Za-z]+)|w[2-8]a[2-8])\b", kind.help.partition(":")[2])
    assert examples
    for example in examples:
        Budget(**{kind.name: example})


def test_the_example_of_a_table_and_those_without_any_budget_are_taken():
    with pytest.raises(BudgetError) as caught:
        Budget(latency=3)
    table, limit = re.search(r"for example \((\{.*\}), ([0-9.]+)\)$", str(caught.value)).groups()
    assert float(limit) > 0
    assert "(4, 4): 0.21" in table
    with pytest.raises(BudgetError) as caught:
        Budget()
    examples = re.findall(r'(\w+)="([^"]+)"', str(caught.value))
    assert len(examples) == 3
    for name, text in examples:
        Budget(**{name: text})


@pytest.mark.parametrize(
    ("limit", "typed", "meant"),
    [
        ("bitops", "3", "3G"),
        ("bitops", 3, "3G"),
        ("bitops", "3.0", "3G"),
        ("size", "3B", "3MB"),
        ("size", 4, "4MB"),
    ],
)
def test_a_limit_without_its_unit_is_answered_with_the_one_that_is_possible(limit, typed, meant):
    with pytest.raises(InfeasibleBudgetError, match=f'; did you mean {limit}="{meant}"\\?$'):
        search("resnet18", **{limit: typed})
    search("resnet18", **{limit: meant})


@pytest.mark.parametrize(
    ("typed", "share"), [("1%", 0.01), ("0.5 %", 0.005), ("0.01", 0.01), (0.02, 0.02), (0, 0.0), (None, 0)]
)
def test_a_gap_is_a_share_or_a_percentage(typed, share):
    assert allowed_gap(typed) == pytest.approx(share)


@pytest.mark.parametrize("typed", ["", "1", "100%", "-1%", "nan", 1, 1.5, -0.1, True, "1%%", "x", float("nan"), [0.1]])
def test_what_is_no_gap_is_refused_with_examples_that_are_taken(typed):
    with pytest.raises(
        BudgetError, match=r"^allow_gap=.* cannot be: use a share from 0 to below 1, for example"
    ) as caught:
        allowed_gap(typed)
    number, text = re.search(r'example ([0-9.]+) or "(.*)"$', str(caught.value)).groups()
    assert allowed_gap(float(number)) == allowed_gap(text) == 0.01


def test_how_a_limit_was_read_is_said_and_the_answer_is_that_of_the_plain_one(capsys):
    code, out, err = answered(["search", "resnet18", "--bitops", "3 gbitops", "--json"], capsys)
    assert code == 0
    assert "note: --bitops '3 gbitops' was read as 3G\n" in err
    assert json.loads(out)["policy"] == search("resnet18", bitops="3G").policy.to_json()


def test_an_error_that_nobody_foresaw_is_one_line_and_has_a_traceback_on_demand(capsys, monkeypatch):
    def fail(*arguments, **options):
        raise ZeroDivisionError("first\nsecond")

    monkeypatch.setattr("limpq_hub.zoo.planning.search", fail)
    line = "limpq: ZeroDivisionError: 'first\\nsecond', which is a fault of limpq-hub"
    code, out, err = answered(["search", "resnet18", "--bitops", "3G"], capsys)
    assert (code, out, err) == (70, "", f"{line}; run it again with --debug, and report what that prints\n")
    code, out, err = answered(["search", "resnet18", "--bitops", "3G", "--debug"], capsys)
    assert (code, out) == (70, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith(f"\n{line}\n")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_the_command_runs_where_docstrings_are_left_out():
    done = run("-OO", "-m", "limpq_hub", "search", "resnet18", "--bitops", "3G")
    assert done.returncode == 0, done.stderr
    assert b"proven optimal" in done.stdout


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
@pytest.mark.parametrize("command", ["search resnet18 --bitops 3G", "list", "explain resnet18 --bitops 2G"])
def test_a_terminal_of_ascii_shows_every_table(command, environment):
    done = run("-m", "limpq_hub", *command.split(), **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert b"\\x" not in done.stdout


def check_interrupt(seconds: float) -> None:
    """Assert that Ctrl-C after so many seconds is told in one line, or comes too early or too late for the command."""
    process = subprocess.Popen(
        [sys.executable, "-m", "limpq_hub", "compare", "resnet18", "--bitops", "3G"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    if process.returncode == 130:
        lines = [line for line in err.splitlines() if not line.startswith(b"note: ")]
        assert lines in ([b"limpq: interrupted"], [b"limpq compare: interrupted"]), err
    elif process.returncode == 0:  # it was over already
        assert b"Traceback" not in err
    else:  # Python itself was still starting, which it tells in its own words, or was at its end
        assert process.returncode == -signal.SIGINT or b"KeyboardInterrupt" in err, (process.returncode, err)
        assert not re.search(rb'limpq_hub/__main__\.py", line \d+, in main', err), err


@pytest.mark.parametrize("hundredths", range(8, 40, 4))
def test_ctrl_c_is_one_line_whether_the_command_loads_or_runs(hundredths):
    check_interrupt(hundredths / 100)


@pytest.mark.slow
@pytest.mark.parametrize("milliseconds", range(60, 800, 7))
def test_ctrl_c_is_one_line_at_any_moment(milliseconds):
    check_interrupt(milliseconds / 1000)


@pytest.mark.parametrize("columns", [40, 60, 80])
@pytest.mark.parametrize("command", ["search", "explain"])
def test_names_of_layers_and_numbers_are_whole_however_narrow_the_terminal(columns, command):
    from rich.console import Console

    from limpq_hub.plan.explanation import explain
    from limpq_hub.zoo.planning import indicators_of

    plan = search("resnet18", bitops="2G")
    tables = [plan.table()] if command == "search" else explain(indicators_of("resnet18"), plan).tables()
    for table in tables:
        with open(os.devnull, "w") as nowhere:
            console = Console(width=columns, file=nowhere, record=True)
            console.print(table)
        assert "…" not in console.export_text()


ODD_NAMES = (
    "with space", "it's", 'say "x"', "a;b", "$(touch ran)", "`ran`", "~x", "*", "-dash", "--bitops", "a\nb",
    "a\\b", "#", "\x1b[2Jé",
)  # fmt: skip


def pasted(command: str) -> list[str]:
    """Return the words that bash makes of a command."""
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_the_next_command_can_be_pasted_whatever_the_path(name, tmp_path, monkeypatch, capsys, tiny):
    monkeypatch.chdir(tmp_path)
    tiny.indicators.save(f"{name}.json")
    _, _, err = answered(["frontier", "--points", "3", "--", f"{name}.json"], capsys)
    words = pasted(re.search(r"next: limpq (.*)", err)[1])
    assert (words[0], Path(words[1])) == ("search", Path(f"{name}.json"))
    assert answered(words, capsys)[0] == 0


@pytest.mark.parametrize("name", ODD_NAMES[::4])
def test_what_comes_after_pull_and_push_can_be_pasted_whatever_the_folder(name, tmp_path, monkeypatch, capsys, tiny):
    monkeypatch.chdir(tmp_path)
    code, _, err = answered(["pull", tiny.name, f"--output={name}"], capsys)
    assert code == 0
    words = pasted(re.search(r"next: limpq (.*)", err)[1])
    assert words[:2] == ["search", f"local-dir:{name}"]
    assert answered(words, capsys)[0] == 0


@pytest.mark.parametrize("name", ODD_NAMES)
def test_what_comes_after_a_training_can_be_pasted_whatever_the_names(name, monkeypatch):
    monkeypatch.setattr("sys.argv", ["-m"])
    start, data = NetworkSettings("resnet18", None, None), DataSettings(name, batch_size=8, workers=0, seed=0)
    words = pasted(_next_command(start, data, Path(name, "model.safetensors"), 32))
    assert words[:4] == ["accelerate", "launch", "-m", "limpq_hub.train.indicators"]
    settings = indicators.parse_options(words[4:])
    assert (settings.network.weights, settings.data.data) == (words[words.index("--weights") + 1], name)
    assert Path(settings.network.weights) == Path(name, "model.safetensors")
    words = pasted(publishing_command(f"local-dir:{name}", "--checkpoint", f"3G={name}", "--front", Path(name)))
    assert words[:3] == ["python", "-m", "limpq_hub.train.publish"]
    made = publish.parse_options(words[3:])
    assert (made.joint, made.front, made.checkpoint) == (Path(name), Path(name), [f"3G={name}"])
    fetch, _, _ = publishing_command(f"hf-hub:{name}", "--front", Path(name)).partition(" && ")
    assert pasted(fetch) == ["limpq", "pull", f"hf-hub:{name}", "--output", "out/joint"]


def test_every_error_of_ours_has_an_exit_code_that_is_not_that_of_a_fault():
    kinds = [LimpqError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        assert kind.exit_code not in (0, 1, FAULT, 130)
