"""How far a plan is ahead: what no policy can go below, the second best policy, and the best uniform one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from limpq_hub.plan.policy import Policy


@dataclass(frozen=True)
class RunnerUp:
    """A policy within the same budget and choices that a plan is ahead of.

    Attributes:
        policy: its bits.
        objective_behind: how much larger its objective is than that of the plan; at least 0 where that is optimal: 0 is
            less than the search tells apart. It may be below 0 where the plan is not.
        kl_behind: how much larger its expected divergence from the float network is, in nats: what each layer alone was
            measured to cause, added up. Layers that err together cause more or less than that. It may be below 0 where
            the objective is another one; None where no pairs were measured.
        gap: how much smaller the objective of the best such policy may be; 0 unless the search allowed a gap and the
            proof took long.
    """

    policy: Policy
    objective_behind: float
    kl_behind: float | None
    gap: float = 0.0


@dataclass(frozen=True)
class Certificate:
    """What is proven of a plan, and how much it matters.

    Attributes:
        bound: no policy within the budget and the choices has an objective that the search can tell to be smaller.
        gap: how much the objective is above the bound; 0 where the plan is optimal.
        second_best: the best of all other policies; None where there is no other, or the plan is not proven optimal.
        best_uniform: the best of the policies that give one pair of bits to all layers that have a choice; None where
            there is none within the budget.
    """

    bound: float
    gap: float
    second_best: RunnerUp | None
    best_uniform: RunnerUp | None

    def to_json(self) -> dict[str, Any]:
        """Return the certificate as JSON can hold it."""
        return {
            "bound": self.bound,
            "gap": self.gap,
            "second_best": self.second_best and _to_json(self.second_best),
            "best_uniform": self.best_uniform and _to_json(self.best_uniform),
        }

    def lines(self) -> list[str]:
        """Return the certificate in words, a line each."""
        proof = "no policy within the budget has a smaller objective" if self.gap == 0 else f"bound {self.bound:.6f}"
        lines = [proof]
        for what, runner_up in (("second best policy", self.second_best), ("best uniform policy", self.best_uniform)):
            if runner_up is not None:
                kl = "" if runner_up.kl_behind is None else f", {_signed(runner_up.kl_behind)} nats"
                gap = f", to a gap of {runner_up.gap:.6f}" if runner_up.gap else ""
                lines.append(f"{what}: objective {_signed(runner_up.objective_behind)}{kl}{gap}")
        return lines


def _signed(difference: float) -> str:
    """Return a difference with its sign; +0.000000 if it is nothing when rounded."""
    return f"{round(difference, 6) + 0.0:+.6f}"


def _to_json(runner_up: RunnerUp) -> dict[str, Any]:
    return {
        "policy": runner_up.policy.to_json(),
        "objective_behind": runner_up.objective_behind,
        "kl_behind": runner_up.kl_behind,
        **({"gap": runner_up.gap} if runner_up.gap else {}),
    }
