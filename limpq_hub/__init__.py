"""Mixed-precision networks for any budget.

The pipeline, each arrow one public function:

    float network --to_supernet--> joint training (limpq_hub.train.indicators) --read_indicators--> indicators.json
    indicators + budget --search--> Plan(policy, costs, proof)
    name + budget --load--> quantized timm network in eval mode, with `.limpq`

`import limpq_hub`, `search` and the command line never import torch; `load` does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from limpq_hub.errors import InfeasibleBudgetError, LimpqError
    from limpq_hub.plan.budget import Budget
    from limpq_hub.plan.indicators import Indicators
    from limpq_hub.plan.plan import Plan
    from limpq_hub.plan.policy import LayerBits, Policy
    from limpq_hub.quant.convert import set_policy_, to_quantized, to_supernet
    from limpq_hub.zoo.catalog import list_models
    from limpq_hub.zoo.loading import load
    from limpq_hub.zoo.planning import baselines, frontier, search

_HOMES = {
    "Budget": "limpq_hub.plan.budget",
    "Indicators": "limpq_hub.plan.indicators",
    "InfeasibleBudgetError": "limpq_hub.errors",
    "LayerBits": "limpq_hub.plan.policy",
    "LimpqError": "limpq_hub.errors",
    "Plan": "limpq_hub.plan.plan",
    "Policy": "limpq_hub.plan.policy",
    "baselines": "limpq_hub.zoo.planning",
    "frontier": "limpq_hub.zoo.planning",
    "list_models": "limpq_hub.zoo.catalog",
    "load": "limpq_hub.zoo.loading",
    "search": "limpq_hub.zoo.planning",
    "set_policy_": "limpq_hub.quant.convert",
    "to_quantized": "limpq_hub.quant.convert",
    "to_supernet": "limpq_hub.quant.convert",
}
__all__ = [
    "Budget",
    "Indicators",
    "InfeasibleBudgetError",
    "LayerBits",
    "LimpqError",
    "Plan",
    "Policy",
    "baselines",
    "frontier",
    "list_models",
    "load",
    "search",
    "set_policy_",
    "to_quantized",
    "to_supernet",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'limpq_hub' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
