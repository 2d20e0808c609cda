"""The commands that decide bits: search, frontier, compare and explain."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limpq_hub.cli.measured_top1 import Top1s
from limpq_hub.cli.options import (
    MODEL_OR_FILE,
    WORDS,
    add_budget_options,
    add_effort_options,
    add_objective_options,
    add_search_options,
    arguments_in_effect,
    next_command,
    search_arguments,
)
from limpq_hub.cli.output import new_table, note, print_json, print_table
from limpq_hub.cli.outputs import check_outputs
from limpq_hub.cli.search_notes import print_search_notes
from limpq_hub.errors import OutputError, SearchError
from limpq_hub.interop.formats import FORMATS, write_policy_as
from limpq_hub.plan.budget import Budget, split_limits
from limpq_hub.plan.deadline import deadline_in, seconds_left, with_all_candidates
from limpq_hub.plan.frontier_search import MOST_POINTS
from limpq_hub.plan.importance import IMPORTANCE_WORDS
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.plan.output_file import is_replaced
from limpq_hub.plan.quantities import enough_bitops, format_bitops, format_size
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.plan.solver.solution import one_of_several
from limpq_hub.plots import check_figure_path, plot_frontier, plot_policy
from limpq_hub.train.option_types import LARGEST_SEED, output_file, seed, whole_number

if TYPE_CHECKING:
    from limpq_hub.plan.certificate import Certificate
    from limpq_hub.plan.indicators import Indicators
    from limpq_hub.plan.plan import Plan
    from limpq_hub.plan.policy import Policy
    from limpq_hub.zoo.entry import Entry


# Of all that a command searches for together, where it is more than one plan.
_LIMIT_OF_SEVERAL_S = 60.0
_NOT_MEASURED = "not measured"


def add_plan_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands of this module."""
    search = command("search", _search, "Find the best bit-widths for a budget; needs no images and no GPU.")
    search.add_argument("model", help=MODEL_OR_FILE)
    search.epilog = f"what may be asked, and how costs are counted: python -m pydoc limpq_hub.plan; {WORDS}"
    add_search_options(search)
    search.add_argument("--output", type=output_file("policy.json"), help="write the policy to this file")
    search.add_argument(
        "--format", choices=("limpq", *FORMATS), default="limpq", help="of --output: ours, or that of another tool"
    )
    search.add_argument(
        "--plot", type=output_file("figure.png"), metavar="FIGURE.png", help="draw the bits of each layer"
    )
    search.add_argument(
        "--certificate",
        action="store_true",
        help="how far the second best and the best uniform policy lie behind; searches as often again",
    )

    frontier = command("frontier", _frontier, "Show the best policies over the whole range of budgets.")
    frontier.add_argument("model", help=MODEL_OR_FILE)
    frontier.epilog = WORDS
    frontier.add_argument(
        "--points",
        type=whole_number(1, MOST_POINTS),
        default=20,
        help=f"how many budgets, evenly apart: 2 to {MOST_POINTS}",
    )
    add_search_options(frontier, bitops=False)
    frontier.add_argument(
        "--plot",
        type=output_file("figure.png"),
        metavar="FIGURE.png",
        help="draw objective and measured top-1 over BitOps",
    )

    compare = command("compare", _compare, "Show the best policy beside uniform, random and others of the same budget.")
    compare.add_argument("model", help=MODEL_OR_FILE)
    compare.epilog = WORDS
    add_budget_options(compare)
    add_objective_options(compare)
    add_effort_options(compare)
    compare.add_argument("--seed", type=seed, default=0, help=f"of the random policy, 0 to {LARGEST_SEED}")

    explain = command("explain", _explain, "Say which layers got more or fewer bits, and what more would cost.")
    explain.add_argument("model", help=MODEL_OR_FILE)
    explain.epilog = WORDS
    add_search_options(explain)


def _search(options: argparse.Namespace) -> None:
    from limpq_hub.zoo.planning import indicators_of, is_indicator_file, search

    if options.format != "limpq" and not options.output:
        raise OutputError(f"--format {options.format} needs a file to write: add --output bits.json")
    if options.plot:
        check_figure_path(options.plot)
    check_outputs(options)
    arguments = search_arguments(options)
    Budget(**split_limits(arguments)[0])  # a malformed budget is told before a model is looked for
    indicators = indicators_of(options.model)
    plan = search(indicators, **arguments)
    print_search_notes(plan, options, indicators)
    if options.output:
        products = [name for name, cost in plan.costs.items() if cost.is_product]
        _write_policy(plan.policy, products, options.output, options.format)
    if options.plot:
        plot_policy(plan, options.plot)
        note(f"wrote {options.plot}")
    certificate = None
    try:
        certificate = plan.certificate if options.certificate else None
    finally:  # also where it is not proven in time, or is cut off: the plan was found without it
        _print_plan(plan, certificate, options)
    if options.json:
        return
    # An entry runs a policy; indicators alone have no weights.
    runs = options.format == "limpq" and not is_indicator_file(options.model)
    policy_file = options.output if options.output and runs and is_replaced(options.output) else None
    then = next_command(
        options.model, arguments, policy_file, without_effect=plan.without_effect, indicators=indicators
    )
    note(f"next: {then}")


def _print_plan(plan: Plan, certificate: Certificate | None, options: argparse.Namespace) -> None:
    if options.json:
        print_json(plan.to_json() | ({"certificate": certificate.to_json()} if certificate else {}))
        return
    print_table(plan.table())
    for line in certificate.lines() if certificate else ():
        print(f"- {line}")


def _frontier(options: argparse.Namespace) -> None:
    from limpq_hub.zoo.planning import frontier, indicators_of, options_in_effect

    if options.plot:
        check_figure_path(options.plot)
    check_outputs(options)
    entry, arguments = _entry(options.model), search_arguments(options)
    indicators = entry.indicators if entry else indicators_of(options.model)
    deadline = deadline_in(arguments.pop("time_limit_s", _LIMIT_OF_SEVERAL_S))
    plans = frontier(indicators, points=options.points, **arguments, time_limit_s=seconds_left(deadline))
    in_effect = options_in_effect(indicators, arguments, proven=all(plan.optimal for plan in plans))
    if options.plot:
        plot_frontier(plans, options.plot, _shipped(entry) if entry and not in_effect else [])
        note(f"wrote {options.plot}")
    print_search_notes(plans[0], options, indicators)
    measured = [entry.joint_top1(plan.policy.digest()) if entry else None for plan in plans]
    top1s = Top1s(entry)
    if options.json:
        of_joint = [top1s.record(plan.policy, top1, "joint") for plan, top1 in zip(plans, measured, strict=True)]
        print_json([plan.to_json() | record for plan, record in zip(plans, of_joint, strict=True)])
        return
    objective = _objective(plans[0])
    headings = ("BitOps", "size", "compression", "weight bits", "activation bits", objective, "top-1, joint weights")
    table = new_table(f"{options.model}: the best policy at each budget", *headings)
    for plan, top1 in zip(plans, measured, strict=True):
        table.add_row(
            format_bitops(plan.bitops),
            format_size(plan.size_bytes),
            f"{plan.compression:.2f}x",
            *(f"{bits:.2f}" for bits in plan.mean_bits()),
            f"{plan.objective:.4f}",
            # What was measured lies on the frontier without these options.
            _expected(None if in_effect else entry, plan) if top1 is None else top1s.cell(plan.policy, top1, "joint"),
        )
    table.caption = top1s.caption()
    print_table(table)
    others = ", with the other options as here" if in_effect else ""
    # At the last budget nothing is traded.
    middle = plans[len(plans) // 2]
    bitops = _budget_to_type(indicators, middle, arguments, deadline)
    note(f"next: {shell_command('limpq', 'search', Path(options.model), '--bitops', bitops)}{others}")


def _budget_to_type(indicators: Indicators, plan: Plan, arguments: dict[str, Any], deadline: float) -> str:
    """Return a budget of two decimals that gives the policy of a plan; its exact BitOps where that gives another."""
    from limpq_hub.zoo.planning import search

    budget = enough_bitops(plan.bitops)
    try:
        again = search(indicators, **arguments, bitops=budget, time_limit_s=seconds_left(deadline))
        same = again.policy == plan.policy
    except SearchError:  # not within the time that the frontier has left
        same = False
    return budget if same else str(plan.bitops)


@with_all_candidates()
@one_of_several()
def _compare(options: argparse.Namespace) -> None:
    from limpq_hub.plan.plan import Plan
    from limpq_hub.zoo.planning import baselines_within, indicators_of, search

    # One entry for all: on the Hub, a name may mean another commit a moment later.
    arguments, entry = search_arguments(options), _entry(options.model)
    indicators = entry.indicators if entry else indicators_of(options.model)
    deadline = deadline_in(arguments.pop("time_limit_s", _LIMIT_OF_SEVERAL_S))
    best = search(indicators, **arguments, time_limit_s=seconds_left(deadline))
    print_search_notes(best, options, indicators)
    plans: dict[str, Plan] = {best.importance: best}
    limits, objective = split_limits(arguments | {"time_limit_s": seconds_left(deadline)})
    others = baselines_within(Budget(**limits), entry or indicators, seed=options.seed, **objective)
    for name, policy in others.items():
        plans[name] = Plan.of_policy(indicators, policy, alpha=best.alpha, counting=best.counting)
    policies = {name: plan.policy for name, plan in plans.items()}
    top1s = Top1s(entry)
    top1: dict[str, tuple[float | None, str]] = {
        name: (entry and entry.measured_top1(policy)) or (None, "") for name, policy in policies.items()
    }
    if options.json:
        print_json(
            {
                name: plan.to_json() | top1s.record(plan.policy, *top1[name]) | {"weights": top1[name][1]}
                for name, plan in plans.items()
            }
        )
        return
    table = new_table(f"{options.model}: bits of weights / activations in the same budget", "layer", *plans)
    for layer in best.policy.layers:
        bits = [policy.layers[layer] for policy in policies.values()]
        table.add_row(layer, *(f"{of_policy.weight}/{of_policy.activation}" for of_policy in bits))
    table.add_section()
    table.add_row("BitOps", *(format_bitops(plan.bitops) for plan in plans.values()))
    table.add_row("weights", *(format_size(plan.size_bytes) for plan in plans.values()))
    table.add_row(_objective(best), *(f"{plan.objective:.4f}" for plan in plans.values()))
    table.add_row(
        "top-1",
        *(
            _NOT_MEASURED if value is None else f"{top1s.cell(policies[name], value, weights)} {weights}"
            for name, (value, weights) in top1.items()
        ),
    )
    table.caption = top1s.caption()
    print_table(table)
    then = next_command(options.model, arguments, without_effect=best.without_effect, indicators=indicators)
    note(f"next: {then}")


def _explain(options: argparse.Namespace) -> None:
    from limpq_hub.plan.budget_check import fits_of
    from limpq_hub.plan.explanation import explain
    from limpq_hub.zoo.planning import indicators_of, search

    indicators = indicators_of(options.model)
    arguments = search_arguments(options)
    deadline = deadline_in(arguments.pop("time_limit_s", _LIMIT_OF_SEVERAL_S))
    plan = search(indicators, **arguments, time_limit_s=seconds_left(deadline))
    print_search_notes(plan, options, indicators)
    limits, choices = split_limits(arguments)
    fits = fits_of(indicators, Budget(**limits), plan.counting, deadline)
    of_layers = {name: value for name, value in choices.items() if name in ("candidates", "pin", "exclude", "tie")}
    explanation = explain(indicators, plan, fits=fits, **of_layers, time_limit_s=seconds_left(deadline))
    if options.json:
        print_json(explanation.to_json())
        return
    for table in explanation.tables():
        print_table(table)
    for sentence in explanation.sentences():
        print(f"- {sentence}")
    words = arguments_in_effect(options.model, search_arguments(options), plan.without_effect, indicators)
    search_again = shell_command("limpq", "search", Path(options.model), *words, "--output", "policy.json")
    note(f"next: {search_again}")


def _entry(model: str) -> Entry | None:
    """Return the entry of a name, or None for a file."""
    from limpq_hub.zoo.catalog import find_entry
    from limpq_hub.zoo.planning import is_indicator_file

    return None if is_indicator_file(model) else find_entry(model)


def _objective(plan: Plan) -> str:
    """Return what a table calls the objective of a plan, with what it adds up."""
    return f"objective, {IMPORTANCE_WORDS[plan.importance]}"


def _shipped(entry: Entry) -> list[tuple[int, float, float | None]]:
    """Return BitOps, top-1 and its standard error of the joint weights at each budget that was measured."""
    from limpq_hub.zoo.measurement import joint_measurement

    return [
        (record["bitops"], record["top1"], joint_measurement(entry, record).standard_error(record["top1"]))
        for record in entry.front(calibrated=False)
    ]


def _expected(entry: Entry | None, plan: Plan) -> str:
    expected = entry.expected_top1(plan.bitops) if entry else None
    return _NOT_MEASURED if expected is None else f"about {expected:.1f} %"


def _write_policy(policy: Policy, products: Sequence[str], path: Path, tool: str) -> None:
    content: dict[str, Any] = policy.to_json()
    notes: tuple[str, ...] = ()
    if tool != "limpq":
        content, notes = write_policy_as(policy, tool, products)
    write_json(path, content)
    for text in notes:
        note(f"note: {text}")
    note(f"wrote {path}")
