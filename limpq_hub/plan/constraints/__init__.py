"""Every kind of constraint that a budget may hold, one file each.

A new kind is its file, a line in `KINDS`, and its keyword in `limpq_hub.plan.budget.LimitsBesideBitops`. Budgets, the
search and its messages, the command line and the options of the training scripts go by this list.
"""

from __future__ import annotations

from typing import Any

from limpq_hub.plan.constraint_kind import ConstraintKind
from limpq_hub.plan.constraints.activation_memory import ActivationMemory
from limpq_hub.plan.constraints.bitops import BitOps
from limpq_hub.plan.constraints.compression import Compression
from limpq_hub.plan.constraints.energy import Energy
from limpq_hub.plan.constraints.latency import Latency
from limpq_hub.plan.constraints.size import Size

# In the order in which they count where two policies lose the same.
KINDS: tuple[ConstraintKind[Any], ...] = (
    BitOps(),
    Size(),
    Compression(),
    ActivationMemory(),
    Latency(),
    Energy(),
)
