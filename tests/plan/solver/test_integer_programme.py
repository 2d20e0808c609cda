"""The way through PuLP: accuracy of CBC and HiGHS, and what happens where they fail."""

from __future__ import annotations

import errno
import os
import random
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pulp
import pytest

from limpq_hub.errors import SearchError
from limpq_hub.plan.search_problem import SearchProblem
from limpq_hub.plan.solver import solver_process
from limpq_hub.plan.solver.integer_programme import _silent_stdout, cbc, highs, solve_with_pulp

# The real solver, its answer thrown away or spoiled: "$solution" is the file it wrote.
REAL_CBC = pulp.PULP_CBC_CMD.pulp_cbc_path
AFTER_CBC = f"""
'{REAL_CBC}' "$@" > /dev/null 2>&1
for argument in "$@"; do
  if [ "$before" = -solution ]; then solution=$argument; fi
  before=$argument
done
"""
# Programmes on which CBC, with its preprocessing and cuts, has called a worse policy optimal.
SIZES = [(9, 1), (40, 147_456), (10**3, 1), (10**9, 1)]
KINDS = [("bitops",), ("size",), ("latency",), ("bitops", "size"), ("bitops", "latency"), ("size", "latency")]
MISJUDGED = (432, 588, 1603, 1639, 1663, 1709, 1795, 1909, 2257, 2329, 2563, 3121)
NEITHER = "neither CBC nor HiGHS could be run; reinstall them: pip install --force-reinstall pulp highspy"


def in_seconds(seconds):
    return time.monotonic() + seconds


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path, monkeypatch):
    """Check after each test that no file is left in the temporary folder, and no process."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before, handles = set(psutil.Process().children(recursive=True)), psutil.Process().num_fds()
    yield
    assert os.listdir(folder) == []
    assert psutil.Process().num_fds() == handles
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.fixture
def small(programme):
    """Return a programme whose one best choice, [0, 1, 2], costs 4."""
    return programme([[3, 2, 0], [5, 1, 0], [4, 3, 0]], [[[1, 2, 4], [1, 2, 4], [1, 3, 5]]], [8])


def market_split():
    """Return costs, rows and limits of a programme that has a solution, and takes a solver minutes.

    Source: Cornuejols and Dawande, "A Class of Hard Small 0-1 Programs", IPCO 1998.
    """
    rng = random.Random(0)
    taken = rng.sample(range(30), 15)
    costs = [[0, rng.randint(0, 9)] for _ in range(30)]
    rows, limits = [], []
    for _ in range(4):
        weights = [rng.randint(0, 99) for _ in range(30)]
        total = sum(weights[unit] for unit in taken)
        # The units that take their second option weigh exactly this: no more, and no less.
        rows += [[[0, weight] for weight in weights], [[weight, 0] for weight in weights]]
        limits += [total, sum(weights) - total]
    return costs, rows, limits


@pytest.fixture
def endless(programme):
    return programme(*market_split())


@pytest.fixture
def instead_of_cbc(tmp_path, monkeypatch):
    """Return a function that puts a shell script in the place of CBC."""

    def put(script):
        path = tmp_path / "cbc"
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)
        monkeypatch.setattr(pulp.PULP_CBC_CMD, "pulp_cbc_path", str(path))

    return put


@pytest.fixture
def without_highs(monkeypatch):
    """Let HiGHS fail as PuLP lets it fail where highspy is not installed."""

    def missing(*_):
        raise pulp.PulpSolverError("HiGHS: Not Available")

    monkeypatch.setattr(pulp.HiGHS, "actualSolve", missing)


def test_cbc_answers_where_it_works(small):
    assert solve_with_pulp(small.costs, small.rows, in_seconds(10)) == ([0, 1, 2], "CBC")


def test_each_solver_is_called_by_its_own_name(small):
    for solver, name in ((cbc, "CBC"), (highs, "HiGHS")):
        assert solve_with_pulp(small.costs, small.rows, in_seconds(10), solver) == ([0, 1, 2], name)


FAILURES = {
    "killed": "kill -9 $$",
    "out of memory": "kill -6 $$",
    "refused": "exit 1",
    "no answer": "exit 0",
    "killed after its answer": f"{AFTER_CBC}\nkill -9 $$",
    "answer lost": f'{AFTER_CBC}\nrm "$solution" || : > "$solution"',
    "no room for its answer": f'{AFTER_CBC}\n: > "$solution"',
    "room for the first word of its answer": f'{AFTER_CBC}\nprintf Opt > "$solution"',
    "room for the first line of its answer": f'{AFTER_CBC}\nhead -n 1 "$solution" > a; cat a > "$solution"; rm a',
    "room for three lines of its answer": f'{AFTER_CBC}\nhead -n 3 "$solution" > a; cat a > "$solution"; rm a',
    "room for half of its answer": f'{AFTER_CBC}\nhead -c 100 "$solution" > a; cat a > "$solution"; rm a',
    "noise": f"{AFTER_CBC}\nprintf '\\377\\001\\200 noise' > \"$solution\"",
    "not a programme": "\x7fELF",
}


@pytest.mark.parametrize("script", [pytest.param(script, id=name) for name, script in FAILURES.items()])
def test_where_cbc_fails_highs_answers(small, instead_of_cbc, tmp_path, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    instead_of_cbc(script)
    assert solve_with_pulp(small.costs, small.rows, in_seconds(20)) == ([0, 1, 2], "HiGHS")


@pytest.mark.parametrize("path", ["/nowhere/cbc", __file__, "/"])
def test_where_there_is_no_cbc_highs_answers(small, monkeypatch, path):
    monkeypatch.setattr(pulp.PULP_CBC_CMD, "pulp_cbc_path", path)
    assert solve_with_pulp(small.costs, small.rows, in_seconds(10)) == ([0, 1, 2], "HiGHS")


@pytest.fixture
def files_in_a_folder(monkeypatch):
    """Let the solvers' files lie in a temporary folder, as they do on other systems than Linux."""
    monkeypatch.setattr(solver_process, "_IN_MEMORY", False)


@pytest.mark.usefixtures("files_in_a_folder")
@pytest.mark.parametrize("script", [pytest.param(script, id=name) for name, script in FAILURES.items()])
def test_where_cbc_fails_and_files_are_in_a_folder_highs_answers(small, instead_of_cbc, tmp_path, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    instead_of_cbc(script)
    assert solve_with_pulp(small.costs, small.rows, in_seconds(20)) == ([0, 1, 2], "HiGHS")


@pytest.mark.usefixtures("files_in_a_folder")
def test_cbc_answers_through_files_in_a_folder(small):
    assert solve_with_pulp(small.costs, small.rows, in_seconds(10)) == ([0, 1, 2], "CBC")


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.EMFILE, errno.ENFILE])
def test_where_there_is_no_room_in_memory_highs_answers(small, monkeypatch, code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "memfd_create", fail)
    assert solve_with_pulp(small.costs, small.rows, in_seconds(10)) == ([0, 1, 2], "HiGHS")


@pytest.mark.usefixtures("files_in_a_folder")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EMFILE])
def test_where_no_temporary_folder_can_be_made_highs_answers(small, monkeypatch, code):
    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "mkdtemp", fail)
    assert solve_with_pulp(small.costs, small.rows, in_seconds(10)) == ([0, 1, 2], "HiGHS")


@pytest.mark.usefixtures("files_in_a_folder")
def test_where_the_temporary_folder_is_not_there_highs_answers(small, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    assert solve_with_pulp(small.costs, small.rows, in_seconds(10)) == ([0, 1, 2], "HiGHS")


@pytest.mark.usefixtures("files_in_a_folder")
def test_where_the_disk_is_full_when_the_problem_is_written_highs_answers(small, monkeypatch):
    def fail(_, path, **__):
        Path(path).write_text("NAME")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pulp.LpProblem, "writeMPS", fail)
    assert solve_with_pulp(small.costs, small.rows, in_seconds(10)) == ([0, 1, 2], "HiGHS")


@pytest.mark.parametrize("script", [pytest.param(script, id=name) for name, script in FAILURES.items()])
def test_where_neither_cbc_nor_highs_works_both_are_named(
    small, instead_of_cbc, without_highs, tmp_path, monkeypatch, script
):
    monkeypatch.chdir(tmp_path)
    instead_of_cbc(script)
    with pytest.raises(SearchError, match=f"^{NEITHER}$"):
        solve_with_pulp(small.costs, small.rows, in_seconds(20))


def test_where_neither_is_installed_both_are_named(run_python):
    code = """
import sys
sys.modules["highspy"] = None
import time
import pulp
from limpq_hub.errors import SearchError
from limpq_hub.plan.solver.integer_programme import solve_with_pulp
pulp.PULP_CBC_CMD.pulp_cbc_path = "/nowhere/cbc"
try:
    print(solve_with_pulp([[1, 0]], [], time.monotonic() + 10))
except SearchError as error:
    print(error)
"""
    assert run_python(code).stdout == f"{NEITHER}\n"


def test_a_solver_that_waits_for_ever_is_not_waited_for(small, instead_of_cbc):
    instead_of_cbc("exec sleep 5")
    began = time.monotonic()
    try:
        answer = solve_with_pulp(small.costs, small.rows, in_seconds(0.5))
    except SearchError:
        pass
    else:
        assert answer == ([0, 1, 2], "HiGHS")
    assert time.monotonic() - began < 4  # not the 5 seconds of the solver


@pytest.mark.parametrize("solver", [cbc, highs])
@pytest.mark.parametrize("seconds", [-1, 0, 0.05, 0.2])
def test_a_solver_that_has_not_proven_its_answer_in_time_gives_none(endless, solver, seconds):
    # Not even that there is none: CBC often calls a programme infeasible when its time is over.
    for _ in range(5):
        began = time.monotonic()
        with pytest.raises(
            SearchError, match="^no proven optimum in time; raise time_limit_s, or use fewer candidates$"
        ):
            solve_with_pulp(endless.costs, endless.rows, in_seconds(seconds), solver)
        assert time.monotonic() - began < seconds + 5  # not the minutes that it would take


def test_a_parent_that_is_killed_leaves_no_solver_running_and_no_file(run_python, tmp_path):
    folder = tmp_path / "parent"
    folder.mkdir()
    code = f"""
import os, signal, sys, threading, time
import psutil
from fractions import Fraction
from limpq_hub.plan.constraints.bitops import BitOps
from limpq_hub.plan.linear_constraint import LinearConstraint
from limpq_hub.plan.solver.integer_programme import _silent_stdout, cbc, solve_with_pulp
costs, rows, limits = {market_split()}
rows = [
    LinearConstraint(BitOps(), tuple(map(tuple, row)), limit, Fraction(limit), Fraction)
    for row, limit in zip(rows, limits)
]
def kill_once_the_solver_runs():
    while not (children := psutil.Process().children()):
        time.sleep(0.01)
    time.sleep(0.2)
    print(children[0].pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=kill_once_the_solver_runs, daemon=True).start()
solve_with_pulp(costs, rows, time.monotonic() + 20, cbc)
"""
    done = run_python(code, TMPDIR=str(folder))
    assert done.returncode == -9, done.stderr
    time.sleep(1)
    solver = int(done.stdout)
    running = psutil.pid_exists(solver) and psutil.Process(solver).status() != psutil.STATUS_ZOMBIE
    if running:
        psutil.Process(solver).kill()
    assert not running
    assert os.listdir(folder) == []


def test_nothing_is_printed(run_python):
    code = """
import time
from fractions import Fraction
from limpq_hub.plan.constraints.bitops import BitOps
from limpq_hub.plan.linear_constraint import LinearConstraint
from limpq_hub.plan.solver.integer_programme import _silent_stdout, cbc, highs, solve_with_pulp
rows = [LinearConstraint(BitOps(), ((1, 2), (1, 2)), 3, Fraction(3), Fraction)]
for solver in (cbc, highs):
    assert solve_with_pulp([[1, 0], [2, 0]], rows, time.monotonic() + 10, solver)[0] == [0, 1]
"""
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("seed", MISJUDGED)
def test_programmes_that_cbc_misjudges_as_it_is_shipped_are_solved(drawn_network, best_choice, seed):
    drawn = drawn_network(random.Random(seed), SIZES)
    kinds = KINDS[seed % len(KINDS)]
    for below in (0, 1):
        limits = {kind: int(drawn.values[kind][drawn.target]) - (below if kind == kinds[0] else 0) for kind in kinds}
        programme = SearchProblem.of(drawn.indicators, drawn.budget(limits)).programme
        # Costs as whole numbers: 2^-80 is below the last digit of each.
        exact = type(programme)(
            [[int(cost * 2**80) for cost in of_unit] for of_unit in programme.costs], programme.rows
        )
        best = best_choice(exact)
        for solver in (cbc, highs):
            choice, _ = solve_with_pulp(programme.costs, programme.rows, in_seconds(10), solver)
            assert choice == (best and best.choice)


@pytest.mark.parametrize("solver", [cbc, highs])
@pytest.mark.parametrize("largest", [10**6, 10**9])
def test_costs_that_differ_by_a_billionth_of_the_largest_are_told_apart(programme, best_choice, solver, largest):
    rng = random.Random(largest)
    for _ in range(40):
        costs = [[rng.choice((0, 0, 1)) * largest + rng.randint(0, 9) for _ in range(4)] for _ in range(4)]
        rows = [[[rng.randint(0, 9) for _ in range(4)] for _ in range(4)] for _ in range(3)]
        drawn = programme(costs, rows, [rng.randint(12, 24) for _ in rows])
        best = best_choice(drawn)
        choice, _ = solve_with_pulp(costs, drawn.rows, in_seconds(10), solver)
        found = choice and sum(of_unit[option] for of_unit, option in zip(costs, choice, strict=True))
        assert found == (best and best.cost)


@pytest.mark.parametrize("solver", [cbc, highs])
def test_costs_of_which_some_are_equal_or_all_are_nothing_are_solved(programme, solver):
    drawn = programme([[0, 0], [0, 0]], [[[1, 2], [2, 1]]], [2])
    assert solve_with_pulp(drawn.costs, drawn.rows, in_seconds(10), solver)[0] == [0, 1]
    drawn = programme([[7]], [[[3]]], [3])
    assert solve_with_pulp(drawn.costs, drawn.rows, in_seconds(10), solver)[0] == [0]
    drawn = programme([[7, 5]], [], [])
    assert solve_with_pulp(drawn.costs, drawn.rows, in_seconds(10), solver)[0] == [1]


@pytest.mark.parametrize("solver", [cbc, highs])
def test_rows_that_exclude_each_other_have_no_solution(programme, solver):
    drawn = programme([[0, 0]] * 3, [[[0, 2]] * 3, [[2, 0]] * 3], [3, 3])
    assert solve_with_pulp(drawn.costs, drawn.rows, in_seconds(10), solver)[0] is None
    drawn = programme([[0, 1]], [[[5, 9]]], [4])
    assert solve_with_pulp(drawn.costs, drawn.rows, in_seconds(10), solver)[0] is None


def test_a_solution_that_the_solver_has_not_proven_is_an_error(small):
    def stopped(problem, deadline):
        name = cbc(problem, deadline)
        problem.sol_status = pulp.LpSolutionIntegerFeasible
        return name

    with pytest.raises(SearchError, match="^no proven optimum in time; raise time_limit_s, or use fewer candidates$"):
        solve_with_pulp(small.costs, small.rows, in_seconds(10), stopped)


def test_a_solution_over_budget_in_whole_numbers_is_never_returned(small):
    solved = []

    def tolerant(problem, deadline):
        solved.append(problem)
        name = cbc(problem, deadline)
        if len(solved) == 1:  # a solver whose tolerance lets the best but too costly options through
            for variable in problem.variables():
                variable.varValue = float(variable.name.endswith("_2"))
        return name

    assert solve_with_pulp(small.costs, small.rows, in_seconds(10), tolerant) == ([0, 1, 2], "CBC")
    assert len(solved) == 2


def test_a_solver_that_is_over_budget_again_and_again_is_an_error(small):
    solved, deadline = [], in_seconds(10)

    def stubborn(problem, until):
        solved.append(until)
        for variable in problem.variables():
            variable.varValue = float(variable.name.endswith("_2"))
        problem.status, problem.sol_status = pulp.LpStatusOptimal, pulp.LpSolutionOptimal
        return "stubborn"

    with pytest.raises(
        SearchError, match="^the solver returned 100 policies that are over budget; try a slightly other budget$"
    ):
        solve_with_pulp(small.costs, small.rows, deadline, stubborn)
    assert solved == [deadline] * 100


@pytest.mark.parametrize("largest", [10**5 + 1, 10**12, 10**16, 10**30])
def test_large_numbers_that_the_solver_gets_rounded_are_met_exactly(programme, best_choice, largest):
    rng = random.Random(largest)
    for _ in range(15):
        row = [[rng.randint(0, largest) for _ in range(4)] for _ in range(5)]
        costs = [[rng.randint(0, 10**6) for _ in range(4)] for _ in range(5)]
        drawn = programme(costs, [row], [sum(rng.choice(of_unit) for of_unit in row) - rng.choice((0, 1))])
        best = best_choice(drawn)
        for solver in (cbc, highs):
            choice, _ = solve_with_pulp(costs, drawn.rows, in_seconds(10), solver)
            assert choice == (best and best.choice)


def test_two_threads_that_silence_stdout_leave_it_as_it_was(capfd):
    both_inside = threading.Barrier(2)

    def silence():
        both_inside.wait()
        with _silent_stdout():
            time.sleep(0.05)

    threads = [threading.Thread(target=silence) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(1, b"heard")
    assert capfd.readouterr().out == "heard"
