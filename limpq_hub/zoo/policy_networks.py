"""The quantized network of a policy: with random weights, fine-tuned ones, or the jointly trained ones."""

from __future__ import annotations

import torch
from torch import nn

from limpq_hub.errors import ArtifactIntegrityError
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.policy_costs import total_bitops
from limpq_hub.quant.convert import select_policy, to_quantized
from limpq_hub.quant.switchable_batch_norm import switching_norms
from limpq_hub.zoo.anchors import apply_nearest_anchors_
from limpq_hub.zoo.checkpoint import load_checkpoint
from limpq_hub.zoo.entry import Entry, Published
from limpq_hub.zoo.entry_folder import load_supernet
from limpq_hub.zoo.entry_tensors import check_supernet_size
from limpq_hub.zoo.network import NetworkSpec


def random_network(spec: NetworkSpec, policy: Policy) -> nn.Module:
    """Return a network at a policy, its steps started from noise."""
    return to_quantized(spec.build(), policy, example_input=torch.randn(8, *spec.input_shape))


def published_network(entry: Entry, spec: NetworkSpec, published: Published) -> nn.Module:
    """Return the fine-tuned network, after checking that entry and checkpoint describe the same network."""
    folder = entry.checkpoint(published.name)
    other = ArtifactIntegrityError(
        f"{folder.name} is a checkpoint of another network than {entry.name}; {folder.advice}"
    )
    # Before memory is taken: in an entropy code a small file can be a huge network, which the supernet cannot.
    if NetworkSpec.from_config(folder.config, folder.name) != spec:
        raise other
    check_supernet_size(entry.folder, spec)
    network, policy = load_checkpoint(folder)
    if total_bitops(entry.indicators.costs, policy) != published.bitops:
        raise other
    return network


def joint_network(entry: Entry, policy: Policy) -> nn.Module:
    """Return the jointly trained network set to a policy, with the BatchNorm statistics that fit it best."""
    supernet = load_supernet(entry.folder, entry.indicators)
    network = select_policy(supernet, policy).eval()
    apply_nearest_anchors_(network, policy, entry.folder, switching_norms(supernet))
    return network
