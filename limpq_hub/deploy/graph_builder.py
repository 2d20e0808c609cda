"""`GraphBuilder`: an ONNX graph that grows node by node; what nothing uses in the end is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 21


class GraphBuilder:
    """Nodes and constants of a graph, in the order in which they are added.

    Args:
        opset: version of the standard operators.
        domains: further operator sets by their domain, with their version.
    """

    def __init__(self, *, opset: int = OPSET, domains: Mapping[str, int] | None = None) -> None:
        self._opsets = [
            helper.make_opsetid("", opset),
            *(helper.make_opsetid(*item) for item in (domains or {}).items()),
        ]
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._names: set[str] = set()

    def add(self, operator: str, inputs: Sequence[str], name: str, *, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output, and return the name of that output.

        Args:
            operator: of the standard set, or of `domain`.
            inputs: names of values; an empty one is left out.
            name: what to call node and output; it gets a number where it is taken.
            attributes: of the operator.
        """
        output = self._free(name)
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def constant(self, value: np.ndarray | np.generic, name: str) -> str:
        """Add a constant and return its name; a scalar keeps its shape []."""
        taken = self._free(name)
        # Not ascontiguousarray: it turns a scalar into a list of one number, which no longer is one step for all.
        self._constants[taken] = numpy_helper.from_array(np.asarray(value, order="C"), taken)
        return taken

    def model(
        self,
        *,
        name: str,
        batch: int | None,
        input_name: str,
        input_shape: Sequence[int],
        output: str,
        output_name: str,
        output_shape: Sequence[int],
        metadata: Mapping[str, str],
    ) -> onnx.ModelProto:
        """Return the graph as a model of float32 input and output, whose first dimension is the batch.

        Args:
            batch: how many images it takes at once; None for any number.
            input_name: of the image.
            input_shape, output_shape: of one image, without the batch.
            output: the value that is returned, as `output_name`.
            metadata: text by key, kept in the file.
        """
        nodes = self._used_nodes(output)
        for node in nodes:
            node.output[:] = [output_name if value == output else value for value in node.output]
            node.input[:] = [output_name if value == output else value for value in node.input]
        used = {value for node in nodes for value in node.input}
        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [batch or "batch", *input_shape])],
            [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, [batch or "batch", *output_shape])],
            [tensor for key, tensor in self._constants.items() if key in used],
        )
        # The oldest version of the file layout that the operators are allowed in: old readers refuse newer ones.
        oldest = helper.find_min_ir_version_for(self._opsets, ignore_unknown=True)
        model = helper.make_model(graph, opset_imports=self._opsets, producer_name="limpq-hub", ir_version=oldest)
        helper.set_model_props(model, dict(metadata))
        return model

    def _used_nodes(self, output: str) -> list[onnx.NodeProto]:
        wanted, kept = {output}, []
        for node in reversed(self._nodes):
            if wanted & set(node.output):
                wanted |= set(node.input)
                kept.append(node)
        return kept[::-1]

    def _free(self, name: str) -> str:
        number, free = 1, name
        while free in self._names:
            number += 1
            free = f"{name}_{number}"
        self._names.add(free)
        return free
