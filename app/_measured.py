"""What bits of a search and uniform bits did to many pictures, both with the joint weights, stored by `measure.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from _zoo import Accuracy, entry_of

from limpq_hub.plan.policy import Policy
from limpq_hub.zoo.front import digests_of_front
from limpq_hub.zoo.measurement import Measurement

FILE = Path(__file__).parent / "measured.json"
FORMAT = 2


@dataclass(frozen=True)
class Figures:
    """How near a policy stays to the float network over many pictures, with the joint weights.

    Attributes:
        policy_sha256: of the policy, see `Policy.digest`.
        bitops: of one image.
        agreement: share of the pictures in which both networks find the same class most likely, in percent.
        kl: divergence of the predictions from those of the float network, mean in nats.
        top1: percent; None where the folders of the pictures are no classes of the network.
    """

    policy_sha256: str
    bitops: int
    agreement: float
    kl: float
    top1: float | None


@dataclass(frozen=True)
class Budget:
    """What both ways of choosing bits reach within one budget.

    Attributes:
        gigabitops: the budget, in 1e9 BitOps of one image.
        searched: of the policy that the search chose, by the importance that the entry's indicators name.
        kl_difference: of searched less uniform, mean over the pictures in nats; below zero where searched is nearer.
        kl_difference_error: its standard error.
    """

    gigabitops: float
    searched: Figures
    uniform: Figures
    kl_difference: float
    kl_difference_error: float


@dataclass(frozen=True)
class Measured:
    """The figures of one entry.

    Attributes:
        images: how many pictures.
        data: which.
        command: what gave the figures, and gives them again.
        device: what ran it.
        float_top1: of the float network on the same pictures, in percent; None as in `Figures`.
        budgets: fewest BitOps first.
    """

    images: int
    data: str
    command: str
    device: str
    float_top1: float | None
    budgets: tuple[Budget, ...]

    def accuracy(self, top1: float) -> Accuracy:
        """Return a top-1 on these pictures with what tells how sure it is."""
        return Accuracy(top1, "joint", measurement=Measurement(self.data, self.images, "validation", None, None))

    def nearest(self, gigabitops: float) -> Budget:
        """Return the budget that is nearest to another one."""
        return min(self.budgets, key=lambda budget: abs(budget.gigabitops - gigabitops))

    def of_policy(self, policy: Policy) -> Figures | None:
        """Return the figures of a policy, if it was measured."""
        digest = policy.digest()
        every = (figures for budget in self.budgets for figures in (budget.searched, budget.uniform))
        return next((figures for figures in every if figures.policy_sha256 == digest), None)


@lru_cache(maxsize=16)
def measured_of(model: str) -> Measured | None:
    """Return what was measured of an entry; None if nothing was, or with other weights or statistics."""
    record = stored().get(model)
    return _measured(record) if record is not None and digests_of(model).items() <= record.items() else None


def digests_of(model: str) -> dict[str, str | None]:
    """Return the sha256 of each file that the joint weights of an entry are served from."""
    return digests_of_front(entry_of(model).folder)


def stored() -> dict[str, Any]:
    """Return the record of each entry by its name, as the file holds it."""
    return json.loads(FILE.read_text(encoding="utf-8"))["models"] if FILE.exists() else {}


def _measured(record: Mapping[str, Any]) -> Measured:
    """Return the record of an entry, as the file holds it, in typed form."""
    budgets = tuple(
        Budget(**{**budget, "searched": Figures(**budget["searched"]), "uniform": Figures(**budget["uniform"])})
        for budget in record["budgets"]
    )
    kept = {key: record[key] for key in ("images", "data", "command", "device", "float_top1")}
    return Measured(**kept, budgets=budgets)
