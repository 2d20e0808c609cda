"""The float weights of the layers that a search chooses bits for. Torch only where a network calls them otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from limpq_hub.errors import ArtifactFormatError
from limpq_hub.plan.costs import Costs
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.float_file import float_file_of, float_weights


def searched_weights(entry: Entry) -> dict[str, NDArray[Any]] | None:
    """Return the weight of each searched layer in the float network of an entry, flat, in float32.

    None where the entry holds no float network; where a product of activations is searched, which has no weights; and
    where weights are called otherwise than their layers by a network that timm does not have, before its factory was
    given to `load`.

    Raises:
        ArtifactError: the file is damaged, or does not fit the network.
    """
    costs = entry.indicators.costs
    searched = {name: cost for name, cost in costs.items() if cost.fixed is None}
    if float_file_of(entry.folder) is None or not all(cost.weights for cost in searched.values()):
        return None
    try:
        return float_weights(entry.folder, costs, searched)
    except ArtifactFormatError:
        return _weights_of_network(entry, searched)


def _weights_of_network(entry: Entry, costs: Costs) -> dict[str, NDArray[Any]] | None:
    """Return what `searched_weights` returns, out of the network itself.

    It may register a weight under another name first, such as that of an embedding, hold those of an attention in one
    parameter, or have more numbers in parameters of its own than in its layers.
    """
    import timm

    from limpq_hub.quant.tracing.forward_trace import prepared_copy
    from limpq_hub.zoo.entry_folder import load_float_network

    if not timm.is_model(str(entry.folder.config.get("architecture"))):
        return None
    network = prepared_copy(load_float_network(entry.folder))
    weights = {}
    for layer, cost in costs.items():
        weight = network.get_submodule(layer).get_parameter("weight").detach().numpy()
        if weight.size != cost.weights:
            raise ArtifactFormatError(f"{entry.name}: the weight of layer {layer} should hold {cost.weights} numbers")
        weights[layer] = weight.astype(np.float32).ravel()
    return weights
