"""Whether the tensors of a network can be loaded again, asked before they are written over others."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.quant.layers import QuantLayer
from limpq_hub.quant.tracing.quantizable import how_computed
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.tensors import is_in_range, is_storable, own_state, step_names


def check_storable(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Raise `UnsupportedLayerError` if a tensor of a network is one that `load_strictly` would refuse.

    What the network is built with may be infinite, such as a mask.

    Args:
        tensors: by their names in the network; raw step sizes at least at their floor.
    """
    check_keeps_weights(network)
    steps = step_names(network)

    @cache
    def built() -> dict[str, Tensor]:
        """Return the tensors of the float network as it is built, which takes a while."""
        return own_state(NetworkSpec.of(network).build())

    for name, value in tensors.items():
        if not is_storable(value.dtype):
            raise UnsupportedLayerError(
                f"tensor {name} is {value.dtype}, which no artifact has: keep real numbers in its place, or register "
                "the buffer with persistent=False"
            )
        # Networks are built in single precision.
        if not value.is_floating_point() or is_in_range(name, value.to(torch.float32), steps):
            continue
        of_built = built().get(name)
        as_loaded = value if of_built is None else value.to(of_built)
        if of_built is None or not (is_in_range(name, as_loaded, steps) or torch.equal(as_loaded, of_built)):
            raise UnsupportedLayerError(
                f"tensor {name} has a value that is not finite (nan or inf), or a variance below 0, with which it "
                "could not be loaded again: look at how the network was trained, and at its images"
            )


def check_keeps_weights(network: nn.Module) -> None:
    """Raise `UnsupportedLayerError` if a part of a network was made to compute its weight or bias, as pruning does.

    Its tensors then have names that the network does not have when it is built again.
    """

    @cache
    def built_names() -> set[str]:
        """Return the names of the tensors of the float network as it is built, which takes a while."""
        return {*NetworkSpec.of(network).build().state_dict()}

    for name, part in network.named_modules():
        how = how_computed(name, part, of=None)
        if how and (isinstance(part, QuantLayer) or not _own_names(name, part) <= built_names()):
            raise UnsupportedLayerError(f"{name} ({type(part).__name__}) cannot be stored: it {how}")


def _own_names(name: str, module: nn.Module) -> set[str]:
    """Return the names in its network of the tensors that a module has itself, or computes its own from."""
    own = {key for key, _ in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]}
    if is_parametrized(module):
        own |= {f"parametrizations.{key}" for key in module.get_submodule("parametrizations").state_dict()}
    return {f"{name}.{key}" if name else key for key in own}
