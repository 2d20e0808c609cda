"""How right the joint weights of an entry are at the budgets at which they were measured, for people."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from limpq_hub.plan.quantities import format_bitops
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.measurement import Measurement, accuracy_cell, joint_measurement


@dataclass(frozen=True)
class JointAccuracy:
    """What was measured at one policy.

    Attributes:
        label: its BitOps; to the last one where another policy has the same in short.
        as_shipped: top-1, or agreement and KL where there were no labels, in words.
        recalibrated: the same with BatchNorm recalibrated; empty where that was not measured.
        measured: how, as shipped.
    """

    label: str
    as_shipped: str
    recalibrated: str
    measured: Measurement


def joint_accuracies(entry: Entry) -> list[JointAccuracy]:
    """Return what was measured of the joint weights as shipped, fewest BitOps first."""
    recalibrated = {
        record["policy_sha256"]: accuracy_cell(record, joint_measurement(entry, record))
        for record in entry.joint_records(calibrated=True)
    }
    as_shipped = entry.joint_records(calibrated=False)[::-1]
    alike = Counter(format_bitops(record["bitops"]) for record in as_shipped)
    accuracies = []
    for record in as_shipped:
        label, measured = format_bitops(record["bitops"]), joint_measurement(entry, record)
        accuracies.append(
            JointAccuracy(
                label=label if alike[label] == 1 else str(record["bitops"]),
                as_shipped=accuracy_cell(record, measured),
                recalibrated=recalibrated.get(record["policy_sha256"], ""),
                measured=measured,
            )
        )
    return accuracies
