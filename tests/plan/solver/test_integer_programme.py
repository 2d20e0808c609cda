"""The way through PuLP and HiGHS: its accuracy, its time limit, and what happens where HiGHS fails."""

from __future__ import annotations

import os
import random
import threading
import time

import psutil
import pulp
import pytest

from limpq_hub.errors import SearchError
from limpq_hub.plan.search_problem import SearchProblem
from limpq_hub.plan.solver import integer_programme
from limpq_hub.plan.solver.integer_programme import solve_with_highs
from limpq_hub.plan.solver.quiet_highs import run_highs, silent_stdout

SIZES = [(9, 1), (40, 147_456), (10**3, 1), (10**9, 1)]
KINDS = [("bitops",), ("size",), ("latency",), ("bitops", "size"), ("bitops", "latency"), ("size", "latency")]
# Seeds of networks on which a solver, with its preprocessing and cuts, has called a worse policy optimal.
MISJUDGED = (432, 588, 1603, 1639, 1663, 1709, 1795, 1909, 2257, 2329, 2563, 3121)
LATE = "^no proven optimum in time; raise time_limit_s=, or use fewer candidates$"
# What the solver needs of a constraint, for a process of its own.
CONSTRAINT = """
import dataclasses
@dataclasses.dataclass(frozen=True)
class Constraint:
    coefficients: tuple
    limit: int
    @property
    def least(self):
        return sum(map(min, self.coefficients))
    def total(self, choice):
        return sum(of_group[option] for of_group, option in zip(self.coefficients, choice))
"""


def in_seconds(seconds):
    return time.monotonic() + seconds


@pytest.fixture(autouse=True)
def nothing_is_left():
    """Check after each test that no handle of a file is left open."""
    handles = psutil.Process().num_fds()
    yield
    assert psutil.Process().num_fds() == handles


@pytest.fixture
def small(programme):
    """Return a programme whose one best choice, [0, 1, 2], costs 4."""
    return programme([[3, 2, 0], [5, 1, 0], [4, 3, 0]], [[[1, 2, 4], [1, 2, 4], [1, 3, 5]]], [8])


def market_split():
    """Return costs, coefficients and limits of a programme that has a solution, and takes a solver minutes.

    Source: Cornuejols and Dawande, "A Class of Hard Small 0-1 Programs", IPCO 1998.
    """
    rng = random.Random(0)
    chosen = rng.sample(range(30), 15)
    costs = [[0, rng.randint(0, 9)] for _ in range(30)]
    coefficients, limits = [], []
    for _ in range(4):
        weights = [rng.randint(0, 99) for _ in range(30)]
        total = sum(weights[group] for group in chosen)
        # The groups that take their second option weigh exactly this: no more, and no less.
        coefficients += [[[0, weight] for weight in weights], [[weight, 0] for weight in weights]]
        limits += [total, sum(weights) - total]
    return costs, coefficients, limits


@pytest.fixture
def endless(programme):
    return programme(*market_split())


@pytest.fixture
def highs_gives(monkeypatch):
    """Return a function that puts another solver in the place of HiGHS."""

    def put(solver):
        monkeypatch.setattr(integer_programme, "run_highs", solver)

    return put


# Where HiGHS fails


def test_where_highs_is_not_installed_the_command_that_installs_it_is_named(run_python):
    code = """
import sys
sys.modules["highspy"] = None
import time
from limpq_hub.errors import SearchError
from limpq_hub.plan.solver.integer_programme import solve_with_highs
try:
    print(solve_with_highs([[1, 0]], [], time.monotonic() + 10))
except SearchError as error:
    print(error)
"""
    message = "HiGHS could not be run; reinstall it: pip install --force-reinstall pulp highspy\n"
    assert run_python(code).stdout == message


def test_where_highs_gives_up_before_its_time_is_over_it_is_said_what_to_do(small, monkeypatch):
    def give_up(_, problem):
        problem.assignStatus(pulp.LpStatusNotSolved, pulp.LpSolutionNoSolutionFound)
        return problem.status

    monkeypatch.setattr(pulp.HiGHS, "actualSolve", give_up)
    message = (
        "^HiGHS gave up without an answer; reinstall it: pip install --force-reinstall pulp highspy, "
        "or search in a process of its own$"
    )
    with pytest.raises(SearchError, match=message):
        solve_with_highs(small.costs, small.constraints, in_seconds(10))
    with pytest.raises(SearchError, match=LATE):
        solve_with_highs(small.costs, small.constraints, in_seconds(-1))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_process_that_runs_highs_with_a_number_of_threads_of_its_own_can_search(run_python, threads):
    code = f"""
import time
import pulp
from limpq_hub.plan.solver.integer_programme import solve_with_highs
for _ in range(2):
    problem = pulp.LpProblem("theirs", pulp.LpMaximize)
    variables = [problem.add_variable(f"x{{index}}", cat=pulp.LpBinary) for index in range(9)]
    problem += pulp.lpSum(index * variable for index, variable in enumerate(variables))
    problem += pulp.lpSum(variables) <= 4
    problem.solve(pulp.HiGHS(msg=False, threads={threads}))
    assert problem.sol_status == pulp.LpSolutionOptimal
    assert solve_with_highs([[1, 0], [2, 3]], [], time.monotonic() + 10) == [1, 0]
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("seconds", [-1, 0, 0.05, 0.2])
def test_without_a_proof_in_time_there_is_no_answer_not_even_that_there_is_none(endless, seconds):
    for _ in range(5):
        began = time.monotonic()
        with pytest.raises(SearchError, match=LATE):
            solve_with_highs(endless.costs, endless.constraints, in_seconds(seconds))
        assert time.monotonic() - began < seconds + 5  # not the minutes that it would take


def test_a_process_that_is_killed_leaves_no_solver_running_and_no_file(run_python, tmp_path):
    costs, coefficients, limits = market_split()
    code = f"""{CONSTRAINT}
import os, signal, sys, threading, time
import psutil
from limpq_hub.plan.solver.integer_programme import solve_with_highs
constraints = [Constraint(tuple(map(tuple, table)), limit) for table, limit in zip({coefficients}, {limits})]
def kill_once_the_solver_runs():
    time.sleep(1)
    print(len(psutil.Process().children()), "children", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=kill_once_the_solver_runs, daemon=True).start()
solve_with_highs({costs}, constraints, time.monotonic() + 20)
"""
    done = run_python(code, TMPDIR=str(tmp_path))
    assert (done.returncode, done.stderr) == (-9, "0 children\n")
    assert os.listdir(tmp_path) == []


def test_nothing_is_printed(run_python):
    code = f"""{CONSTRAINT}
import time
from limpq_hub.plan.solver.integer_programme import solve_with_highs
assert solve_with_highs([[1, 0], [2, 0]], [Constraint(((1, 2), (1, 2)), 3)], time.monotonic() + 10) == [0, 1]
"""
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_another_thread_prints_while_a_programme_is_solved_is_heard(endless, capfd):
    def speak():
        time.sleep(0.2)
        os.write(1, b"heard")

    speaker = threading.Thread(target=speak)
    speaker.start()
    with pytest.raises(SearchError, match=LATE):
        solve_with_highs(endless.costs, endless.constraints, in_seconds(0.5))
    speaker.join()
    assert capfd.readouterr().out == "heard"


def test_two_threads_that_silence_stdout_leave_it_as_it_was(capfd):
    both_inside = threading.Barrier(2)

    def silence():
        both_inside.wait()
        with silent_stdout():
            time.sleep(0.05)

    threads = [threading.Thread(target=silence) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(1, b"heard")
    assert capfd.readouterr().out == "heard"


# Accuracy


@pytest.mark.parametrize("seed", MISJUDGED)
def test_programmes_that_a_solver_has_misjudged_are_solved(drawn_network, best_choice, seed):
    drawn = drawn_network(random.Random(seed), SIZES)
    kinds = KINDS[seed % len(KINDS)]
    for below in (0, 1):
        limits = {kind: int(drawn.values[kind][drawn.target]) - (below if kind == kinds[0] else 0) for kind in kinds}
        programme = SearchProblem.of(drawn.indicators, drawn.budget(limits)).programme
        # Costs as whole numbers: 2^-80 is below the last digit of each.
        exact = type(programme)(
            [[int(cost * 2**80) for cost in of_group] for of_group in programme.costs], programme.constraints
        )
        best = best_choice(exact)
        choice = solve_with_highs(programme.costs, programme.constraints, in_seconds(10))
        assert choice == (best and best.choice)


@pytest.mark.parametrize("largest", [10**6, 10**9])
def test_costs_that_differ_by_a_billionth_of_the_largest_are_told_apart(programme, best_choice, largest):
    rng = random.Random(largest)
    for _ in range(40):
        costs = [[rng.choice((0, 0, 1)) * largest + rng.randint(0, 9) for _ in range(4)] for _ in range(4)]
        coefficients = [[[rng.randint(0, 9) for _ in range(4)] for _ in range(4)] for _ in range(3)]
        drawn = programme(costs, coefficients, [rng.randint(12, 24) for _ in coefficients])
        best = best_choice(drawn)
        choice = solve_with_highs(costs, drawn.constraints, in_seconds(10))
        cost = choice and sum(of_group[option] for of_group, option in zip(costs, choice, strict=True))
        assert cost == (best and best.cost)


def test_costs_of_which_some_are_equal_or_all_are_nothing_are_solved(programme):
    drawn = programme([[0, 0], [0, 0]], [[[1, 2], [2, 1]]], [2])
    assert solve_with_highs(drawn.costs, drawn.constraints, in_seconds(10)) == [0, 1]
    drawn = programme([[7]], [[[3]]], [3])
    assert solve_with_highs(drawn.costs, drawn.constraints, in_seconds(10)) == [0]
    drawn = programme([[7, 5]], [], [])
    assert solve_with_highs(drawn.costs, drawn.constraints, in_seconds(10)) == [1]


def test_constraints_that_exclude_each_other_have_no_solution(programme):
    drawn = programme([[0, 0]] * 3, [[[0, 2]] * 3, [[2, 0]] * 3], [3, 3])
    assert solve_with_highs(drawn.costs, drawn.constraints, in_seconds(10)) is None
    drawn = programme([[0, 1]], [[[5, 9]]], [4])
    assert solve_with_highs(drawn.costs, drawn.constraints, in_seconds(10)) is None


def test_a_solution_that_highs_has_not_proven_is_an_error(small, highs_gives):
    def stopped(problem, deadline, **gaps):
        run_highs(problem, deadline)
        problem.sol_status = pulp.LpSolutionIntegerFeasible

    highs_gives(stopped)
    with pytest.raises(SearchError, match=LATE):
        solve_with_highs(small.costs, small.constraints, in_seconds(10))


def test_a_solution_over_budget_in_whole_numbers_is_never_returned(small, highs_gives):
    solved = []

    def tolerant(problem, deadline, **gaps):
        solved.append(problem)
        run_highs(problem, deadline)
        if len(solved) == 1:  # a solver whose tolerance lets the best but too costly options through
            for variable in problem.variables():
                variable.varValue = float(variable.name.endswith("_2"))

    highs_gives(tolerant)
    assert solve_with_highs(small.costs, small.constraints, in_seconds(10)) == [0, 1, 2]
    assert len(solved) == 2


def test_a_solver_that_first_finds_a_choice_and_then_none_has_proven_nothing(programme, highs_gives):
    solved = []

    def forgetful(problem, deadline, **gaps):
        run_highs(problem, deadline, **gaps)
        solved.append(problem)
        if len(solved) == 2:
            problem.status = pulp.LpStatusInfeasible

    highs_gives(forgetful)
    # The first cost dwarfs the others, so that they are solved once more without it.
    drawn = programme([[10**9, 4, 2], [5, 1, 0]], [[[1, 2, 4], [1, 2, 4]]], [6])
    with pytest.raises(SearchError, match=LATE) as caught:
        solve_with_highs(drawn.costs, drawn.constraints, in_seconds(10))
    assert (len(solved), caught.value.choice) == (2, [2, 1])


def test_a_solver_that_is_over_budget_again_and_again_is_an_error(small, highs_gives):
    deadlines, deadline = [], in_seconds(10)

    def stubborn(problem, until, **gaps):
        deadlines.append(until)
        for variable in problem.variables():
            variable.varValue = float(variable.name.endswith("_2"))
        problem.status, problem.sol_status = pulp.LpStatusOptimal, pulp.LpSolutionOptimal

    highs_gives(stubborn)
    with pytest.raises(
        SearchError, match="^HiGHS returned 100 policies that are over budget; try a slightly other budget$"
    ):
        solve_with_highs(small.costs, small.constraints, deadline)
    assert deadlines == [deadline] * 100


@pytest.mark.parametrize("largest", [10**5 + 1, 10**12, 10**16, 10**30])
def test_large_numbers_that_highs_gets_rounded_are_met_exactly(programme, best_choice, largest):
    rng = random.Random(largest)
    for _ in range(15):
        table = [[rng.randint(0, largest) for _ in range(4)] for _ in range(5)]
        costs = [[rng.randint(0, 10**6) for _ in range(4)] for _ in range(5)]
        drawn = programme(costs, [table], [sum(rng.choice(of_group) for of_group in table) - rng.choice((0, 1))])
        best = best_choice(drawn)
        choice = solve_with_highs(costs, drawn.constraints, in_seconds(10))
        assert choice == (best and best.choice)
