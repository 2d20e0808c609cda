"""Networks that visitors share: each is loaded once, never changed, and a bounded number is cached."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

from _hub_models import fetched_folder
from _zoo import entry_of

from limpq_hub.plan.policy import Policy

if TYPE_CHECKING:
    from torch import nn

# Of a ResNet-18 about 100 MB each; with twelve of them, and torch, the process took 2.3 GB.
MOST_NETWORKS = 12
_FLOAT = "float"

Weights = Literal["joint", "finetuned"]


class Networks:
    """Float and quantized networks by model and policy, each a module of its own in eval mode, without gradients."""

    def __init__(self, most: int = MOST_NETWORKS) -> None:
        self._most = most
        self._networks: OrderedDict[tuple[str, str, Weights], nn.Module] = OrderedDict()
        self._lock = threading.Lock()
        self._load_lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._networks)

    def has(self, model: str, policy: Policy | None, weights: Weights = "joint") -> bool:
        """Return whether a network is loaded already."""
        return _key(model, policy, weights) in self._networks

    def get(self, model: str, policy: Policy | None, weights: Weights = "joint") -> nn.Module:
        """Return the network of a policy, or the float network for None; to be used, never changed.

        Args:
            weights: of the policy; those of joint training are there for every one.

        Raises:
            UnknownModelError: no weights were fine-tuned for this policy, or the entry has no float network.
            ArtifactError: a file of the entry is damaged.
        """
        key = _key(model, policy, weights)
        network = self._cached(key)
        if network is not None:
            return network
        # One load at a time: it bounds the memory, and no network is loaded twice for two visitors.
        with self._load_lock:
            network = self._cached(key)
            if network is None:
                network = _load(model, policy, weights)
                with self._lock:
                    self._networks[key] = network
                    while len(self._networks) > self._most:
                        self._networks.popitem(last=False)
        return network

    def _cached(self, key: tuple[str, str, Weights]) -> nn.Module | None:
        with self._lock:
            if key in self._networks:
                self._networks.move_to_end(key)
            return self._networks.get(key)


def _key(model: str, policy: Policy | None, weights: Weights) -> tuple[str, str, Weights]:
    return model, _FLOAT if policy is None else policy.digest(), weights


def _load(model: str, policy: Policy | None, weights: Weights) -> nn.Module:
    # torch comes with these: the page is up before it is needed.
    from limpq_hub.zoo.entry_folder import load_float_network
    from limpq_hub.zoo.loading import NotFineTunedWarning, load

    if policy is None:
        return load_float_network(entry_of(model).folder).requires_grad_(False)
    # The page says so beside the prediction. The filter stays: `catch_warnings` is not safe with several threads.
    warnings.filterwarnings("ignore", category=NotFineTunedWarning)
    return load(model, policy=policy, weights=weights, cache_dir=fetched_folder(model))
