"""What a network multiplies in one forward pass: its layers, its products of activations, and what stays in float."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from limpq_hub.errors import LimpqError, UnsupportedLayerError, quoted
from limpq_hub.quant.multihead_attention import ExplicitAttention, Thirds
from limpq_hub.quant.replacing import replace_everywhere_
from limpq_hub.quant.tracing.quantizable import check_layers, check_patterns, is_excluded, layers_of
from limpq_hub.quant.tracing.recording import Operation, Recorder
from limpq_hub.quant.tracing.routes import Route, product_names, routes_of


@dataclass(frozen=True)
class Trace:
    """What one forward pass shows of a network.

    Attributes:
        operations: all that is multiplied, by name, in the order of execution.
        routes: by module name.
        ties: for each layer that shares its weight with one before it, by name, that one.
        norm_feeds: for each batch normalization, by name, the convolution that ran last before it; those before the
            first convolution are absent.
        constants: buffers that are multiplied by as they are, by name.
        uncalled: layers that the forward pass does not reach, such as auxiliary heads for training.
    """

    operations: Mapping[str, Operation]
    routes: Mapping[str, Route]
    ties: Mapping[str, str]
    norm_feeds: Mapping[str, str]
    constants: frozenset[str]
    uncalled: tuple[str, ...]


def prepared_copy(module: nn.Module, *, on_meta: bool = False) -> nn.Module:
    """Return a copy of a network, `nn.MultiheadAttention` written out, so that it multiplies where it can be seen.

    Args:
        on_meta: whether the copy is on the meta device: it shares what its parts share, and takes no memory.
    """
    copied = copy.deepcopy(module, meta_twins(module)) if on_meta else copy_of(module)
    if ExplicitAttention.replaces(copied):
        return ExplicitAttention(copied)
    thirds: Thirds = {}
    attentions = [child for child in copied.modules() if ExplicitAttention.replaces(child)]
    replace_everywhere_(copied, {child: ExplicitAttention(child, thirds) for child in attentions})
    if attentions:
        for child in copied.modules():
            if isinstance(child, nn.TransformerEncoder):
                child.use_nested_tensor = False  # which only its fused path, of the attention as it was, could take
    return copied


def trace(
    module: nn.Module,
    input_shape: tuple[int, ...],
    exclude: Sequence[str] = (),
    in_float: Collection[str] = (),
) -> Trace:
    """Return what one forward pass shows, run on the meta device: shapes only, nothing is computed.

    Args:
        input_shape: of one sample without the batch dimension: (channels, height, width) of one image.
        exclude: shell patterns over the names of layers, products and modules that stay in float.
        in_float: names of what else does, as an artifact holds them; one that the network has not is passed over.

    Raises:
        UnsupportedLayerError: a layer cannot be quantized, there is none, a pattern matches nothing, or the network
            does not take such an input, writes over it, or reads what the copy that runs has not.
    """
    twin = prepared_copy(module, on_meta=True).eval()
    check_layers(twin, exclude, in_float)
    recorder = Recorder(twin)
    dtype = next((p.dtype for p in twin.parameters() if p.is_floating_point()), torch.float32)
    try:
        # In inference mode a convolution is not taken apart into the operation that is counted.
        with torch.inference_mode(False), torch.no_grad(), recorder.recording():
            image = torch.empty(1, *input_shape, device="meta", dtype=dtype)
            twin(image)
            is_written_over = image._version > 0
    except LimpqError:
        raise
    except AttributeError as error:
        advice = "let the network run on such a batch by itself first"
        if any(isinstance(part, ExplicitAttention) for part in twin.modules()):
            advice = (
                "where that is of an nn.MultiheadAttention, which is written out in layers, make it one of a subclass "
                "of your own (class Attention(nn.MultiheadAttention): pass), which is left as it is, in float"
            )
        raise UnsupportedLayerError(
            f"{type(module).__name__} reads what is not there on a batch of one input of shape {list(input_shape)}: "
            f"{quoted(str(error))}; {advice}"
        ) from error
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
        why = quoted(str(error) or type(error).__name__)
        raise UnsupportedLayerError(
            f"{type(module).__name__} does not run on a batch of one input of shape {list(input_shape)}: {why}; give "
            f"the input size that it is made for{_unregistered(error)}"
        ) from error
    if is_written_over:
        raise UnsupportedLayerError(
            f"{type(module).__name__} writes over the images that it is given, which are measured more than once: let "
            "it compute new ones (x = x - mean, not x -= mean; nn.ReLU() in front, not nn.ReLU(inplace=True))"
        )
    names = product_names(twin, recorder.operations)
    operations = {_operation_name(key, names): operation for key, operation in recorder.operations.items()}
    check_patterns("exclude", exclude, [*operations, *(name for name, _ in twin.named_modules())])
    for name, operation in operations.items():
        if name in in_float or is_excluded(name, exclude, recorder.ties) or name.startswith("unregistered:"):
            operation.kind = "float"
        elif operation.mixes_weights:
            raise UnsupportedLayerError(
                f"{name} ({type(twin.get_submodule(name)).__name__}) multiplies by its weight and by another that it "
                f'makes, and a step size is of one; leave it in float with exclude=["{name}"]'
            )
    layers = [name for name, _ in layers_of(twin)]
    return Trace(
        operations=operations,
        routes=routes_of(recorder.calls, names, recorder.ties, operations),
        ties=recorder.ties,
        norm_feeds=recorder.norm_feeds,
        constants=frozenset(recorder.constants),
        uncalled=tuple(name for name in layers if recorder.ties.get(name, name) not in operations),
    )


def copy_of(module: nn.Module) -> nn.Module:
    """Return a copy of a network, also of one that keeps what it computed, which `copy.deepcopy` refuses to copy."""
    return copy.deepcopy(module, computed_twins(module))


def computed_twins(module: nn.Module) -> dict[int, Tensor]:
    """Return copies, by their identity, of the tensors that modules have computed and keep, which torch does not copy.

    An example is the weight that `weight_norm`, `spectral_norm` or pruning computes in a hook of the module.
    """
    kept = (x for part in module.modules() for x in _tensors_in(vars(part).values()))
    return {id(x): x.detach().clone() for x in kept if not x.is_leaf}


def _tensors_in(held: Iterable[Any], seen: set[int] | None = None) -> Iterator[Tensor]:
    """Yield the tensors among values, and in lists, tuples and dictionaries of them, which may hold themselves."""
    seen = set() if seen is None else seen
    for value in held:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            yield from _tensors_in(value.values() if isinstance(value, Mapping) else value, seen)


def meta_twins(module: nn.Module) -> dict[int, Tensor]:
    """Return what `copy.deepcopy` is to put in the place of each tensor, by its identity.

    Raises:
        UnsupportedLayerError: a parameter has no shape yet.
    """
    twins: dict[int, Tensor] = {}
    for name, part in module.named_modules():
        if any(is_lazy(parameter) for parameter in part._parameters.values()):
            raise UnsupportedLayerError(
                f"{name or 'the network'} ({type(part).__name__}) has a parameter without a shape: run the network once"
            )
        for tensor in _tensors_in(vars(part).values()):
            twin = tensor.detach().to("meta")
            is_parameter = isinstance(tensor, nn.Parameter)
            twins[id(tensor)] = nn.Parameter(twin, tensor.requires_grad) if is_parameter else twin
    return twins


def _unregistered(error: Exception) -> str:
    """Return advice for a network that holds what no copy on the meta device can be made of."""
    return ", and register what it keeps in lists (nn.ModuleList, register_buffer)" if "meta" in str(error) else ""


def _operation_name(key: str | tuple[str | None, int], names: Mapping[tuple[str | None, int], str]) -> str:
    return key if isinstance(key, str) else names[key]
