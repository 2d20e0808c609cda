"""What is shown of something long: a bar on a terminal, lines elsewhere, nothing beside the main process."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from limpq_hub.train import progress
from limpq_hub.train.progress import ProgressDisplay, progress_teller, tracked


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands at 100 seconds until a test moves it."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_there_is_a_line_every_half_minute_and_one_at_the_end(clock, capsys):
    with ProgressDisplay("step", 100, done=40) as display:
        for done, seconds in ((50, 110), (55, 131), (60, 140), (90, 162), (100, 170)):
            clock[0] = float(seconds)
            display.show(done, f"loss {done}")
    # 15 steps in 31 seconds leave 93 seconds for the 45 others, and 50 in 62 seconds 12.4 for the last 10.
    assert capsys.readouterr().out.splitlines() == [
        "step 55/100 · loss 55 · 1.6 min left",
        "step 90/100 · loss 90 · 0.2 min left",
        "step 100/100 · loss 100 · 0.0 min left",
    ]


def test_a_hidden_display_shows_nothing(clock, capsys):
    with ProgressDisplay("step", 2, hidden=True) as display:
        display.show(2, "loss 1")
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar_and_no_line(monkeypatch):
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(progress, "Console", lambda stderr: terminal)
    with ProgressDisplay("step", 4) as display:
        display.show(3, "loss 1.500")
    assert "loss 1.500" in screen.getvalue()
    assert "4/4" in screen.getvalue()
    assert "min left" not in screen.getvalue()


@pytest.mark.parametrize(
    ("count", "rank", "told"), [(101, "0", "reading: 101 pages\n"), (100, "0", ""), (101, "1", "")]
)
def test_many_items_are_announced_once_on_stderr_by_the_main_process(monkeypatch, capsys, count, rank, told):
    monkeypatch.setenv("RANK", rank)
    assert list(tracked(iter(range(count)), "reading", "pages", count)) == list(range(count))
    assert capsys.readouterr() == ("", told)


def test_items_that_take_long_are_told_of_while_they_are_taken(clock, capsys):
    for item in tracked(range(200), "reading", "pages", 200):
        clock[0] += 31.0 if item == 99 else 0.0
    assert capsys.readouterr().err.splitlines() == [
        "reading: 200 pages",
        "pages 100/200 · reading · 0.5 min left",
    ]


def test_what_tells_how_far_it_is_itself_has_a_first_line_and_the_time_that_is_left_without_what_was_done_before(
    clock, capsys
):
    with progress_teller("measuring", "layers") as tell:
        tell(10, 30)
        clock[0] += 40
        tell(14, 30)
        clock[0] += 160
        tell(30, 30)
    assert capsys.readouterr() == (
        "",
        "measuring: 30 layers, 10 done\n"
        "layers 14/30 · measuring · 2.7 min left\n"
        "layers 30/30 · measuring · 0.0 min left\n",
    )
