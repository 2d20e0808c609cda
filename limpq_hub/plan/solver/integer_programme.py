"""The integer programme for a general solver, through PuLP: for what the enumeration of `knapsack.py` does not take."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pulp

from limpq_hub.errors import SearchError
from limpq_hub.plan.linear_constraint import LinearConstraint
from limpq_hub.plan.solver.solver_process import run_solver, solver_files

# CBC takes a solution as better only if it is by more than 1e-5: costs are scaled to reach up to this.
_COST_SCALE = 1e4
_MOST_REPAIRS = 100
# Coefficients up to this stay exact within the tolerances of the solvers.
_LARGEST_COEFFICIENT = 10**5
_TOLERANCE = 1e-4
_CBC = "CBC"
_HIGHS = "HiGHS"
_SILENCING = threading.Lock()

Solver = Callable[[pulp.LpProblem, float], str]


def solve_with_pulp(
    costs: Sequence[Sequence[float]], rows: Sequence[LinearConstraint], deadline: float, solver: Solver | None = None
) -> tuple[list[int] | None, str]:
    """Return the option of each unit with the least total cost that meets all rows, or None, and who found it.

    Args:
        costs: for each unit, the cost of each option.
        deadline: when to give up, by `time.monotonic`.
        solver: solves a problem before a deadline and returns its own name; CBC, or HiGHS if CBC fails, if None.

    Raises:
        SearchError: no solver works, or there is no proven optimum in time.
    """
    affordable = [_affordable(rows, unit, len(of_unit)) for unit, of_unit in enumerate(costs)]
    if not all(affordable):
        return None, _CBC

    def narrowed(table: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(of_unit[o] for o in kept) for of_unit, kept in zip(table, affordable, strict=True))

    rows = [replace(row, coefficients=narrowed(row.coefficients)) for row in rows]
    choice, name = _solved(narrowed(costs), rows, deadline, solver or cbc_or_highs)
    return choice and [kept[picked] for kept, picked in zip(affordable, choice, strict=True)], name


def cbc_or_highs(problem: pulp.LpProblem, deadline: float) -> str:
    """Solve `problem` with CBC, which comes with PuLP, or where that fails with HiGHS; return the name of the one."""
    return cbc(problem, deadline) or highs(problem, deadline)


def cbc(problem: pulp.LpProblem, deadline: float) -> str:
    """Solve `problem` with CBC; return its name, or "" if it failed or its time was over."""
    # Preprocessing made CBC call a worse policy optimal, and its `threads` made one solve in 500 wait for ten seconds.
    # Without preprocessing it crashes on one tiny infeasible programme in 1,000: then preprocessing may say that it is
    # infeasible, but its solutions are not trusted.
    for preprocessing in (False, True):
        try:
            _run_cbc(problem, _seconds_until(deadline), preprocessing=preprocessing)
        except (OSError, ValueError, LookupError, subprocess.SubprocessError, pulp.PulpSolverError):
            continue
        # When its time is over it often calls a programme infeasible; an answer that was cut off breaks a constraint.
        in_time = time.monotonic() < deadline
        if problem.status == pulp.LpStatusInfeasible and in_time:
            return _CBC
        if problem.sol_status == pulp.LpSolutionOptimal and not preprocessing and problem.valid(_TOLERANCE):
            return _CBC
    return ""


def highs(problem: pulp.LpProblem, deadline: float) -> str:
    """Solve `problem` with HiGHS, inside this process; return its name.

    Raises:
        SearchError: it could not be run.
    """
    try:
        with _silent_stdout():  # its banner
            problem.solve(pulp.HiGHS(msg=False, gapRel=0, gapAbs=0, timeLimit=_seconds_until(deadline)))
    except pulp.PulpSolverError:
        raise SearchError(
            "neither CBC nor HiGHS could be run; reinstall them: pip install --force-reinstall pulp highspy"
        ) from None
    return _HIGHS


def _run_cbc(problem: pulp.LpProblem, seconds: float, *, preprocessing: bool) -> None:
    """Run CBC and take its answer over."""
    with solver_files() as files:
        variables, names, rows, _ = problem.writeMPS(files.problem, rename=True)
        ways = ["-cuts", "off"] if preprocessing else ["-preprocess", "off", "-cuts", "off"]
        path = pulp.PULP_CBC_CMD.pulp_cbc_path
        command = [path, files.problem, "-sec", f"{seconds:.3f}", "-ratio", "0", "-allow", "0", *ways]
        command += ["-solve", "-printingOptions", "all", "-solution", files.answer]
        run_solver(command, files, seconds + 1)
        status, values, _, _, _, solution = pulp.COIN_CMD(path=path).readsol_MPS(
            files.answer, problem, variables, names, rows
        )
    problem.assignVarsVals(values)
    problem.assignStatus(status, solution)


def _seconds_until(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.01)


@contextmanager
def _silent_stdout() -> Iterator[None]:
    """Send what a library writes to the process's stdout nowhere."""
    # Stdout belongs to all threads: a second one would take what the first has put there for the real one.
    with _SILENCING:
        sys.stdout.flush()
        kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 1)
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)
            os.close(nowhere)


def _affordable(rows: Sequence[LinearConstraint], unit: int, options: int) -> list[int]:
    """Return the options of a unit that fit every row while all other units take their least."""
    spare = [row.limit - row.least + min(row.coefficients[unit]) for row in rows]
    return [
        o
        for o in range(options)
        if all(row.coefficients[unit][o] <= most for row, most in zip(rows, spare, strict=True))
    ]


def _solved(
    costs: Sequence[Sequence[float]], rows: Sequence[LinearConstraint], deadline: float, solver: Solver
) -> tuple[list[int] | None, str]:
    slopes = [[cost - min(of_unit) for cost in of_unit] for of_unit in costs]
    scale = _COST_SCALE / (max(map(max, slopes)) or 1.0)
    problem = pulp.LpProblem("limpq", pulp.LpMinimize)
    picks = [
        [problem.add_variable(f"pick_{unit}_{option}", cat=pulp.LpBinary) for option in range(len(of_unit))]
        for unit, of_unit in enumerate(costs)
    ]
    problem += scale * _weighted(slopes, picks)
    for of_pick in picks:
        problem += pulp.lpSum(of_pick) == 1
    for row in rows:
        coefficients, limit = _reduced(row)
        problem += _weighted(coefficients, picks) <= limit
    for _ in range(_MOST_REPAIRS):
        name = solver(problem, deadline)
        if name and problem.status == pulp.LpStatusInfeasible:
            return None, name
        # `status` also reads Optimal when a time limit stopped at a merely feasible point; `sol_status` does not.
        if not name or problem.sol_status != pulp.LpSolutionOptimal:
            raise SearchError("no proven optimum in time; raise time_limit_s, or use fewer candidates")
        choice = [max(range(len(of_pick)), key=lambda option: of_pick[option].varValue or 0) for of_pick in picks]
        broken = next((row for row in rows if row.total(choice) > row.limit), None)
        if broken is None:
            return choice, name
        # The rounded row let a policy through that is over budget in exact integers: forbid it, and with it every
        # policy that costs at least as much in each unit.
        problem += pulp.lpSum(
            pick
            for of_pick, of_unit, picked in zip(picks, broken.coefficients, choice, strict=True)
            for pick, weight in zip(of_pick, of_unit, strict=True)
            if weight >= of_unit[picked]
        ) <= len(choice) - 1  # fmt: skip
    raise SearchError(f"the solver returned {_MOST_REPAIRS} policies that are over budget; try a slightly other budget")


def _weighted(
    weights: Sequence[Sequence[float]], picks: Sequence[Sequence[pulp.LpVariable]]
) -> pulp.LpAffineExpression:
    """Return the sum over units and options of weight x pick."""
    terms = zip(itertools.chain(*weights), itertools.chain(*picks), strict=True)
    return pulp.LpAffineExpression([(pick, weight) for weight, pick in terms])


def _reduced(row: LinearConstraint) -> tuple[list[list[int]], float]:
    """Return the row in small integers: each unit's least coefficient taken out, divided by the gcd.

    Where the result is still large it is rounded down, which lets more policies through and never fewer; the caller
    recounts. The half unit above the limit keeps the tolerance of a solver away from it.
    """
    lowest = [min(of_unit) for of_unit in row.coefficients]
    extra = [[weight - low for weight in of_unit] for of_unit, low in zip(row.coefficients, lowest, strict=True)]
    divisor = math.gcd(*itertools.chain(*extra)) or 1
    divisor *= max(1, max(itertools.chain(*extra)) // divisor // _LARGEST_COEFFICIENT)
    return [[weight // divisor for weight in of_unit] for of_unit in extra], (row.limit - sum(lowest)) // divisor + 0.5
