"""`CallRecorder`: notes every call of a torch function on a value of the run while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from limpq_hub.deploy.lost_tensors import LostTensors, share_memory
from limpq_hub.deploy.recorded_call import Call, Value, leaves
from limpq_hub.deploy.refusals import function_name, refusal
from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.quant.module_calls import watched_module_calls
from limpq_hub.quant.quantizer import LsqQuantizer


class CallRecorder(TorchFunctionMode):
    """Notes the calls whose result depends on the image.

    Args:
        network: what runs meanwhile.
        image: its input.
        note_result: is called with the name of each value, and the value.
    """

    def __init__(
        self, network: nn.Module, image: Tensor, note_result: Callable[[str, Tensor], None] = lambda name, x: None
    ) -> None:
        super().__init__()
        self._note_result = note_result
        self.calls: list[Call] = []
        self._names = {id(module): name for name, module in network.named_modules()}
        self._running: list[nn.Module] = []
        # By identity of the tensor, which is held: a tensor that is gone could give its identity to another one.
        self._values: dict[int, tuple[Tensor, Value]] = {}
        self._lost = LostTensors()
        self._refusal: UnsupportedLayerError | None = None
        self._state = {id(x) for x in (*network.parameters(), *network.buffers())}
        self.image = self._new_value(image, "image")

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note what runs inside.

        Raises:
            UnsupportedLayerError: something cannot be followed.
        """
        try:
            with watched_module_calls(self._enter, self._leave), self:
                yield
        finally:
            # Python takes an error of this kind inside of an operator such as + for "try the other operand".
            if self._refusal is not None:
                raise self._refusal

    def value_of(self, x: object) -> Value | None:
        """Return the value that a tensor is; None of whatever does not depend on the image."""
        held = self._values.get(id(x))
        return None if held is None else held[1]

    def __torch_function__(
        self, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        options = kwargs or {}
        taken = list(leaves((args, tuple(options.values())), Tensor))
        versions = [_version_of(x) for x in taken]
        result = function(*args, **options)
        # Inside a quantizer nothing is noted: the quantizer is one call.
        if any(isinstance(module, LsqQuantizer) for module in self._running):
            return result
        written = [x for x, version in zip(taken, versions, strict=True) if _version_of(x) != version]
        lost = self._lost_of(taken)
        if lost is None and all(self.value_of(x) is None for x in taken):
            return result
        if isinstance(result, Tensor):
            self._check_followed(lost)
            followed = self.value_of(result) is not None
            self._note(function, _replaced(args, self._known), _replaced(options, self._known), result)
            self._lose_written(written, result if followed else None)
        else:
            self._lose_written(written, None)
            for x in leaves(result, Tensor):
                self._lost.lose(x, f"one of several results of {function_name(function)}")
        return result

    def _lost_of(self, taken: Iterable[Tensor]) -> str | None:
        """Return what the first of these tensors that cannot be followed is; None if all can."""
        return next((why for x in taken if self.value_of(x) is None and (why := self._lost.why(x)) is not None), None)

    def _check_followed(self, lost: str | None) -> None:
        """Raise `UnsupportedLayerError` if something that cannot be followed is taken; `recording` raises it again."""
        if lost is not None:
            refused = refusal(self._module(), f"takes {lost}, which cannot be followed")
            self._refusal = self._refusal or refused
            raise refused

    def _lose_written(self, written: Iterable[Tensor], followed: Tensor | None) -> None:
        """Note that whatever shares its memory with what was written over cannot be followed.

        Args:
            followed: what was written over and returned, which is a value of its own.
        """
        for x in written:
            self._lost.lose(x, "what was written over in part or under another name")
            for held, _ in list(self._values.values()):
                if held is not followed and share_memory(held, x):
                    del self._values[id(held)]

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._running.append(module)

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._running.pop()
        if isinstance(module, LsqQuantizer) and module.bits is not None and inputs:
            self._check_followed(self._lost_of(inputs[:1]))
            if (x := self.value_of(inputs[0])) is not None:
                self._note(None, (x,), {}, output, module)

    def _note(
        self,
        function: Callable[..., Any] | None,
        arguments: tuple[Any, ...],
        options: Mapping[str, Any],
        result: Tensor,
        quantizer: LsqQuantizer | None = None,
    ) -> None:
        module = self._module()
        output = self._new_value(result, f"{module or 'network'}:{len(self.calls)}")
        self.calls.append(Call(function, arguments, options, output, module, quantizer))
        if function is not None:
            self._note_result(output.name, result)

    def _module(self) -> str:
        """Return the name of the innermost module that runs and has one; empty for the network itself."""
        return next((name for running in reversed(self._running) if (name := self._names.get(id(running)))), "")

    def _new_value(self, x: Tensor, name: str) -> Value:
        value = Value(name, tuple(x.shape))
        # What works in place returns the tensor that it was given, which is another value from then on.
        self._values[id(x)] = (x, value)
        return value

    def _known(self, x: object) -> object:
        value = self.value_of(x)
        if value is None and isinstance(x, Tensor) and id(x) not in self._state:
            return x.clone()  # a constant of the pass, which may be written over later
        return value or x


def _replaced(content: Any, replace: Callable[[object], object]) -> Any:
    """Return nested tuples, lists and dictionaries with every other object replaced."""
    if isinstance(content, tuple | list) and not isinstance(content, torch.Size):
        return type(content)(_replaced(item, replace) for item in content)
    if isinstance(content, dict):
        return {key: _replaced(item, replace) for key, item in content.items()}
    return replace(content)


def _version_of(x: Tensor) -> int | None:
    """Return how often a tensor was written into; None of a weight that was loaded in inference mode."""
    return None if x.is_inference() else x._version
