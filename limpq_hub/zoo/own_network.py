"""A network of your own, that timm does not have: from the module to an entry that others load with your factory.

What makes the network is a function or class at the top level of a module of yours, called with `num_classes`. An
entry names it by its import path, and nothing is imported because a file says so: who loads the entry passes the
factory.

```python
import torch
from torch import nn

import limpq_hub
from limpq_hub.quant.convert import select_policy
from limpq_hub.quant.learned_indicators import read_indicators
from limpq_hub.quant.profile import profile_module
from limpq_hub.train.method.joint_step import joint_policies
from limpq_hub.zoo.checkpoint import save_checkpoint
from limpq_hub.zoo.entry_folder import save_entry, seal_entry
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.own_network import own_network


class Net(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3))
        self.head = nn.Linear(16, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.stem(images)).relu().mean((2, 3)))


images, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 4  # yours: normalized batches, and their classes
network = own_network(Net, num_classes=4, input_size=32)  # trained weights go in with load_state_dict
costs, candidates = profile_module(network, images), (2, 3, 4)

supernet = limpq_hub.to_supernet(network, candidates, example_input=images).train()
optimizer = torch.optim.SGD(supernet.parameters(), lr=0.01, momentum=0.9)
for step in range(2):  # joint training: every bit-width and a random mixture of them in each step
    for policy in joint_policies("net", costs, candidates, seed=0, step=step):
        limpq_hub.set_policy_(supernet, policy)
        nn.functional.cross_entropy(supernet(images), labels).backward()
    optimizer.step()
    optimizer.zero_grad()
indicators = read_indicators(supernet, costs, input_size=32, num_classes=4)
classes = [{"id": str(label), "name": f"class {label}"} for label in range(4)]
save_entry(folder, supernet, indicators, classes)

plan = limpq_hub.search(indicators, bitops="w3a3")
tuned = select_policy(supernet, plan.policy).train()  # fine-tuning: one policy, from the joint weights
optimizer = torch.optim.SGD(tuned.parameters(), lr=0.01, momentum=0.9)
nn.functional.cross_entropy(tuned(images), labels).backward()
optimizer.step()
save_checkpoint(folder / "policies" / "w3a3", tuned.eval(), costs)
seal_entry(folder, NetworkSpec.of(tuned))

model = limpq_hub.load(f"local-dir:{folder}", bitops="w3a3", build=Net)  # after `limpq push`: "hf-hub:you/net"
```
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import model_entrypoint, register_model
from torch import nn

from limpq_hub.errors import UnknownModelError, quoted
from limpq_hub.zoo.factory_path import architecture_at
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.timm_network import timm_network

Factory = Callable[..., nn.Module]


def own_network(
    factory: Factory,
    *,
    num_classes: int,
    input_size: int = 224,
    mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
    std: Sequence[float] = IMAGENET_DEFAULT_STD,
    interpolation: str = "bilinear",
    crop_pct: float = 1.0,
    crop_mode: str = "center",
) -> nn.Module:
    """Return what a factory makes, in eval mode, with what an entry says of a network: its name and its pictures.

    Args:
        factory: a function or class at the top level of a module, called with `num_classes` alone.
        num_classes: outputs of the classifier.
        input_size: height and width in pixels.
        mean, std: per channel, for pixels in 0..1.
        interpolation: of the scaling: "bilinear", "bicubic", ...
        crop_pct: share of the shorter side that the crop keeps.
        crop_mode: "center", "squash" or "border".

    Raises:
        UnknownModelError: the factory has no import path.
        UnsupportedLayerError: no entry can hold that many classes, or pictures that are prepared so.
    """
    config = {
        "mean": tuple(mean),
        "std": tuple(std),
        "interpolation": interpolation,
        "crop_pct": crop_pct,
        "crop_mode": crop_mode,
    }
    name = registered(factory)
    # Of a class within another one, or a method, which no line imports from a module; entries of earlier versions load.
    if "." in factory.__qualname__:
        raise _not_importable(factory)
    network = timm_network(name, input_size=input_size, config=config, num_classes=num_classes).eval()
    NetworkSpec.of(network).check_storable()
    return network


def registered(factory: Factory) -> str:
    """Make a factory known to timm under its import path, "package__module__function", and return that name.

    Raises:
        UnknownModelError: the factory has no import path.
    """
    name = architecture_at(_import_path(factory))
    if not re.fullmatch(r"[A-Za-z0-9_]+", name) or not getattr(factory, "__qualname__", ""):
        raise _not_importable(factory)

    def entrypoint(
        pretrained: bool = False, pretrained_cfg_overlay: Mapping[str, Any] | None = None, **options: Any
    ) -> nn.Module:
        network: Any = factory(num_classes=options["num_classes"])
        network.num_classes = options["num_classes"]
        network.pretrained_cfg = {"architecture": name, **(pretrained_cfg_overlay or {})}
        return network

    if timm.is_model(name) and getattr(model_entrypoint(name), "factory", None) is factory:
        return name
    entrypoint.__name__, known = name, entrypoint
    vars(known)["factory"] = factory
    with warnings.catch_warnings():
        # A notebook defines its class anew in each run of a cell.
        warnings.simplefilter("ignore", UserWarning)
        register_model(known)
    return name


def _import_path(factory: Factory) -> str:
    return f"{getattr(factory, '__module__', '')}.{getattr(factory, '__qualname__', '')}"


def _not_importable(factory: Factory) -> UnknownModelError:
    return UnknownModelError(
        f"build={quoted(_import_path(factory))} cannot be found by an import path: give a function or class at the top "
        "level of a module"
    )


def use_factory(factory: Factory, architecture: str, entry: str) -> None:
    """Let an entry be built by a factory.

    Args:
        architecture: what the entry calls its network.
        entry: what to call the entry in an error.

    Raises:
        UnknownModelError: the entry is of another network.
    """
    name = registered(factory)
    if name != architecture:
        raise UnknownModelError(
            f"{entry} is of {quoted(architecture)}, build={_import_path(factory)} makes {quoted(name)}: give the "
            "factory that the entry was made with"
        )
