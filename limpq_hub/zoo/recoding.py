"""Entries and checkpoints of earlier versions, in as few bytes as this version writes."""

from __future__ import annotations

from pathlib import Path

import torch

from limpq_hub.plan.output_file import write_bytes
from limpq_hub.quant.packing import unpack
from limpq_hub.zoo.checkpoint import CODING, FILES, KIND, WEIGHTS, load_checkpoint
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_folder import load_float_network, load_supernet
from limpq_hub.zoo.entry_tensors import float_tensors, supernet_tensors, write_float_network, write_supernet
from limpq_hub.zoo.float_file import float_file_of
from limpq_hub.zoo.folder import SealedFolder, seal_folder
from limpq_hub.zoo.packed_tensors import stored_integers
from limpq_hub.zoo.seal import WEIGHT_CODING
from limpq_hub.zoo.tensors import tensors_from_bytes, tensors_to_bytes

_PACKED = ".weight_packed"


def recode_networks(entry: Entry, target: Path) -> None:
    """Write the supernet and the float network of an entry anew, the same tensors in fewer bytes; not sealed.

    Args:
        entry: of any format that this version reads.
        target: a copy of its files.

    Raises:
        ArtifactError: a file is damaged, or does not fit the network; nothing is written.
    """
    load_supernet(entry.folder, entry.indicators)
    in_float = None
    if float_file_of(entry.folder):
        load_float_network(entry.folder)
        in_float = float_tensors(entry.folder)
    supernet = supernet_tensors(entry.folder)
    if in_float is not None:
        write_float_network(target, in_float)
    write_supernet(target, supernet)


def recode_checkpoint(source: SealedFolder, target: Path) -> None:
    """Write the weights of a checkpoint anew, the same integers in fewer bytes; its other tensors and files stay.

    Args:
        source: a checkpoint of any format that this version reads.
        target: the folder of `source`, or a copy of its files.

    Raises:
        ArtifactError: `source` is damaged, or does not fit its network; nothing is written.
    """
    _, policy = load_checkpoint(source)  # from here on each tensor is known to be what a checkpoint has
    tensors = tensors_from_bytes(source.read(WEIGHTS), f"{source.name}/{WEIGHTS}")
    for layer in [key.removesuffix(_PACKED) for key in tensors if key.endswith(_PACKED)]:
        bits, shape = policy.layers[layer].weight, tuple(tensors[f"{layer}.weight_shape"].tolist())
        key, stored = stored_integers(unpack(tensors.pop(layer + _PACKED).numpy(), bits, shape), bits)
        tensors[f"{layer}.{key}"] = torch.from_numpy(stored)
    write_bytes(target / WEIGHTS, tensors_to_bytes(tensors))
    config = {key: value for key, value in source.config.items() if key not in ("format", "kind", "files")}
    seal_folder(target, KIND, config | {WEIGHT_CODING: CODING}, FILES)
