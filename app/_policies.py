"""The policies that a visitor can name: of the search, uniform, reversed, random, published, or a file of their own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from _request import Request
from _zoo import entry_of, plan_of, published_names, published_policy, rival_policies, searched_plan

from limpq_hub.errors import BudgetError, PolicyError
from limpq_hub.plan.importance import IMPORTANCE_WORDS
from limpq_hub.plan.jsonfile import parse_json
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.zoo.policy_request import plan_for

UPLOADED = "a policy.json of yours"
_SEARCHED = {importance: f"{words}, at this budget" for importance, words in IMPORTANCE_WORDS.items()}
FILLED = "uniform, filled up to this budget"
# What the page calls the policies that `limpq_hub.baselines` returns.
RIVALS = {
    "uniform, at this budget": "uniform",
    FILLED: "uniform filled",
    "importance reversed, at this budget": "reversed",
    "random, at this budget": "random",
}
MOST_POLICY_BYTES = 1_000_000


def choices_of(model: str) -> list[str]:
    """Return the names of all policies that can be chosen."""
    return [searched_choice(model), *RIVALS, *map(_published, published_names(model)), UPLOADED]


def searched_choice(model: str) -> str:
    """Return the name of the policy that the search finds, by the importance that it adds up."""
    return _SEARCHED[entry_of(model).indicators.objective]


def is_searched(choice: str) -> bool:
    """Return whether a policy is that of the search; of a page whose model changes, it may be named as of the last."""
    return choice in _SEARCHED.values()


def title_of(model: str, choice: str) -> str:
    """Return what a heading calls a policy of `choices_of`: that of the search by the importance of this model."""
    return searched_choice(model) if is_searched(choice) else choice


def chosen_plan(request: Request, choice: str, upload: str | None) -> Plan:
    """Return the plan of a policy by its name.

    Args:
        choice: of `choices_of`.
        upload: path of a `policy.json`, for the choice `UPLOADED`.

    Raises:
        LimpqError: the request cannot be met, or the file is not a policy of this model.
    """
    if not isinstance(choice, str):
        raise _unknown(choices_of(request.model))
    if is_searched(choice):
        return searched_plan(request)
    if choice in RIVALS:
        return rival_plan(request, choice)
    if choice == UPLOADED:
        return plan_of(request, _uploaded(request.model, upload))
    for name in published_names(request.model):
        if choice == _published(name):
            return plan_of(request, published_policy(request.model, name))
    raise _unknown(choices_of(request.model))


def rival_plan(request: Request, choice: str) -> Plan:
    """Return the plan of one of `RIVALS`.

    Raises:
        BudgetError: there is none within this budget.
        PolicyError: that is none of them.
    """
    if not isinstance(choice, str) or choice not in RIVALS:
        raise _unknown(RIVALS)
    policy = rival_policies(request).get(RIVALS[choice])
    if policy is None:
        raise BudgetError("no policy of this kind fits this budget; raise the budget or choose another")
    return plan_of(request, policy)


def _uploaded(model: str, upload: str | None) -> Policy:
    """Return the policy in an uploaded file, its layers in the order of execution."""
    if upload is None:
        raise PolicyError("there is no policy.json yet; upload one, or choose another policy")
    try:
        with Path(upload).open("rb") as file:
            text = file.read(MOST_POLICY_BYTES + 1)
    except FileNotFoundError:
        raise PolicyError("the policy.json is no longer there; upload it again") from None
    if len(text) > MOST_POLICY_BYTES:
        raise PolicyError(f"the policy.json is larger than {MOST_POLICY_BYTES / 1e6:.0f} MB; is this the right file?")
    content = parse_json(text, "the policy.json")
    if not isinstance(content, dict):
        raise PolicyError("the policy.json holds no policy; is this the right file?")
    return plan_for(entry_of(model), content).policy


def _unknown(choices: Iterable[str]) -> PolicyError:
    return PolicyError(f"there is no policy of this name; choose one of: {', '.join(choices)}")


def _published(name: str) -> str:
    return f"published: {name}"
