"""Every kind of constraint that a budget may hold, one file each; a new kind is its file and a line in `KINDS`."""

from __future__ import annotations

from typing import Any

from limpq_hub.plan.constraint_kind import ConstraintKind
from limpq_hub.plan.constraints.activation_memory import ActivationMemory
from limpq_hub.plan.constraints.bitops import BitOps
from limpq_hub.plan.constraints.compression import Compression
from limpq_hub.plan.constraints.latency import Latency
from limpq_hub.plan.constraints.size import Size

# In the order in which they count where two policies lose the same.
KINDS: tuple[ConstraintKind[Any], ...] = (
    BitOps(),
    Size(),
    Compression(),
    ActivationMemory(),
    Latency(),
)
