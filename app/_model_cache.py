"""Networks that visitors share: each is loaded once, never changed, and a bounded number is kept."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from typing import TYPE_CHECKING

from _zoo import entry_of

from limpq_hub.plan.policy import Policy

if TYPE_CHECKING:
    from torch import nn

# Of a ResNet-18 about 100 MB each; with all of them, and torch, the process was seen at 2.3 GB.
MOST_NETWORKS = 12
_FLOAT = "float"


class Networks:
    """Float and quantized networks by model and policy, each a module of its own in eval mode, without gradients."""

    def __init__(self, most: int = MOST_NETWORKS) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[str, str], nn.Module] = OrderedDict()
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def has(self, model: str, policy: Policy | None) -> bool:
        """Return whether a network is there already."""
        return _key(model, policy) in self._kept

    def get(self, model: str, policy: Policy | None) -> nn.Module:
        """Return the network of a policy, or the float network for None; to be used, never changed.

        Raises:
            ArtifactError: a file of the entry is damaged.
        """
        key = _key(model, policy)
        network = self._found(key)
        if network is not None:
            return network
        # One at a time: it bounds the memory, and nobody loads what another visitor is loading.
        with self._loading:
            network = self._found(key)
            if network is None:
                network = _load(model, policy)
                with self._lock:
                    self._kept[key] = network
                    while len(self._kept) > self._most:
                        self._kept.popitem(last=False)
        return network

    def _found(self, key: tuple[str, str]) -> nn.Module | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)


def _key(model: str, policy: Policy | None) -> tuple[str, str]:
    return model, _FLOAT if policy is None else policy.digest()


def _load(model: str, policy: Policy | None) -> nn.Module:
    # torch comes with these: the page is up before it is needed.
    from limpq_hub.zoo.entry_folder import load_float_network
    from limpq_hub.zoo.loading import NotFineTunedWarning, load

    if policy is None:
        return load_float_network(entry_of(model).folder).requires_grad_(False)
    # The page says so beside the prediction. For good, as `catch_warnings` is for programmes of one thread.
    warnings.filterwarnings("ignore", category=NotFineTunedWarning)
    return load(model, policy=policy)
