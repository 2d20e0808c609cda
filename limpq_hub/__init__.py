"""Mixed-precision networks for any budget.

The pipeline, each arrow one public function:

    float network --to_supernet--> joint training --read_indicators--> indicators.json
    indicators + budget --search--> Plan(policy, costs, proof)
    name + budget --load--> quantized timm network in eval mode, with `.limpq`
    quantized network --export--> a folder that another runtime takes, checked

`import limpq_hub` and `search`, in a shell too, never import torch; `load` does, as every command that runs a network.
The rooms, with a guide each:
`limpq_hub.plan` decides the bits, `limpq_hub.quant` runs them, `limpq_hub.zoo` shares them (on a Hub:
`limpq_hub.zoo.hub`), `limpq_hub.train` learns them, `limpq_hub.deploy` writes them for other runtimes,
`limpq_hub.interop` reads and writes the files of other tools.

## Words

- *Policy*: a weight and an activation bit-width for each layer. *Budget*: what a policy may cost.
- *Step size*: the distance of two neighbouring values on the grid that a quantizer rounds to, learned in training.
- *Importance* of a layer at some bits: the step sizes that its quantizers learned there, added up (*learned steps*) or
  as the root of the sum of their squares (*coupled steps*), or how far the network moves from float with this layer
  alone at these bits (*measured pairs*); large where these bits hurt.
- *Objective*: the sum of the importance of all layers at the bits of a policy, which a search makes as small as the
  budget allows. It compares policies of one network, and is neither an error nor an accuracy.
- *Alpha*: how much the importance of weights counts in that sum, where that of activations counts 1.
- *Joint* weights: one set of weights, trained at all bit-widths at once. They serve any policy; weights *fine-tuned*
  for a policy were trained on at its bits alone.
- *Recalibrated*: with BatchNorm statistics that were measured anew for the policy, on pictures.
- *Anchors*: the policies whose BatchNorm statistics an entry holds, so that joint weights need no pictures: `load`
  takes those of the nearest anchor.
- *Reversed*, in a comparison: a policy that was searched with the importance of the layers turned round, which should
  do badly.
- *Sensitivity*, in a comparison: a policy that was searched with the relative rounding error of the weights in place of
  what was learned.
- *Entry*: the folder or repository of one network: its importance, joint weights, float weights, fine-tuned policies.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from limpq_hub.version import __version__ as __version__

if TYPE_CHECKING:
    from limpq_hub.deploy.exporting import export
    from limpq_hub.errors import InfeasibleBudgetError, LimpqError
    from limpq_hub.plan.budget import Budget
    from limpq_hub.plan.indicators import Indicators
    from limpq_hub.plan.layer_bits import LayerBits
    from limpq_hub.plan.plan import Plan
    from limpq_hub.plan.policy import Policy
    from limpq_hub.quant.convert import set_policy_, to_quantized, to_supernet
    from limpq_hub.zoo.catalog import list_models
    from limpq_hub.zoo.limpq_model import LimpqModel
    from limpq_hub.zoo.loading import load
    from limpq_hub.zoo.planning import baselines, frontier, search

_HOMES = {
    "Budget": "limpq_hub.plan.budget",
    "Indicators": "limpq_hub.plan.indicators",
    "InfeasibleBudgetError": "limpq_hub.errors",
    "LayerBits": "limpq_hub.plan.layer_bits",
    "LimpqError": "limpq_hub.errors",
    "LimpqModel": "limpq_hub.zoo.limpq_model",
    "Plan": "limpq_hub.plan.plan",
    "Policy": "limpq_hub.plan.policy",
    "baselines": "limpq_hub.zoo.planning",
    "export": "limpq_hub.deploy.exporting",
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
    "LimpqModel",
    "Plan",
    "Policy",
    "baselines",
    "export",
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
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ValueError:
        from limpq_hub.zoo.hub_address import check_address

        check_address()
        raise


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
