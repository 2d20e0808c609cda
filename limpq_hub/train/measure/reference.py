"""The float network that a quantized one is compared with: agreement and KL divergence tell where labels cannot."""

from __future__ import annotations

import sys

from accelerate import Accelerator
from torch import Tensor

from limpq_hub.errors import HubError, UnknownModelError
from limpq_hub.train.data.picture_loader import PictureLoader
from limpq_hub.train.measure.evaluate import log_probabilities
from limpq_hub.train.settings import DataSettings
from limpq_hub.train.weights.networks import float_network_of
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.float_file import FLOAT_FILE, float_file_of


def check_comparable(entry: Entry, data: DataSettings) -> None:
    """Raise `UnknownModelError` where a command that takes no other float network has no labels, and the entry none."""
    if data.data is None and float_file_of(entry.folder) is None:
        raise UnknownModelError(
            f"{entry.folder.name} holds no {FLOAT_FILE} to compare with; give --data with labels, or an entry that "
            "holds its float network"
        )


def reference_of(
    accelerator: Accelerator, entry: Entry, weights: str | None, loader: PictureLoader, *, needed: bool
) -> list[Tensor] | None:
    """Return the log-probabilities of the float network of an entry, as `evaluate` takes them.

    Args:
        weights: safetensors file of the float network, or None for the one that the entry holds.
        loader: the pictures that will be evaluated.
        needed: whether the figures cannot do without it, for want of labels for instance.

    Returns:
        None where the entry holds no float network, or the Hub does not give it, and it is not needed; the latter is
        told.

    Raises:
        UnknownModelError: the entry holds none, and it is needed.
        HubError: the Hub does not give it, and it is needed.
    """
    try:
        network = float_network_of(entry, weights)
    except (UnknownModelError, HubError) as error:
        if needed:
            raise
        if isinstance(error, HubError) and accelerator.is_main_process:
            print(f"note: neither agreement nor KL is measured: {error}", file=sys.stderr, flush=True)
        return None
    return log_probabilities(accelerator, network.to(accelerator.device), loader)
