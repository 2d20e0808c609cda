"""Networks that visitors share: each is loaded once, never changed, and a bounded number of bytes is held."""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING, Literal

from _held import Held, network_bytes
from _hub_models import fetched_folder
from _zoo import entry_of

from limpq_hub.plan.policy import Policy

if TYPE_CHECKING:
    from torch import nn

# Of parameters and buffers, 45 MB of a ResNet-18; the folded weights of a quantized one take as much again. With twelve
# of them, and torch, the process took 2.3 GB.
MOST_NETWORK_BYTES = 600_000_000
_FLOAT = "float"

Weights = Literal["joint", "finetuned"]


class Networks:
    """Float and quantized networks by model and policy, each a module of its own in eval mode, without gradients."""

    def __init__(self, most_bytes: int = MOST_NETWORK_BYTES) -> None:
        self._networks: Held[tuple[str, str, Weights], nn.Module] = Held(most_bytes, network_bytes)
        self._lock = threading.Lock()
        self._load_lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Bytes of the parameters and buffers of all that are held."""
        with self._lock:
            return self._networks.held_bytes

    def has(self, model: str, policy: Policy | None, weights: Weights = "joint") -> bool:
        """Return whether a network is loaded already."""
        with self._lock:
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
                    self._networks.put(key, network)
        return network

    def _cached(self, key: tuple[str, str, Weights]) -> nn.Module | None:
        with self._lock:
            return self._networks.get(key)


def _key(model: str, policy: Policy | None, weights: Weights) -> tuple[str, str, Weights]:
    return model, _FLOAT if policy is None else policy.digest(), weights


def _load(model: str, policy: Policy | None, weights: Weights) -> nn.Module:
    """Return a network of an entry at a policy, or its float network with None."""
    # These import torch, which takes seconds: the page is up before a network is needed.
    from limpq_hub.zoo.entry_folder import load_float_network
    from limpq_hub.zoo.loading import NotFineTunedWarning, load

    if policy is None:
        return load_float_network(entry_of(model).folder).requires_grad_(False)
    # The page says so beside the prediction. The filter stays: `catch_warnings` is not safe with several threads.
    warnings.filterwarnings("ignore", category=NotFineTunedWarning)
    return load(model, policy=policy, weights=weights, cache_dir=fetched_folder(model), token=False)
