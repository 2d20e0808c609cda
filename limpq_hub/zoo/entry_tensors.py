"""The two networks of an entry as its files hold them: the jointly trained supernet, and the float network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from limpq_hub.errors import ArtifactFormatError
from limpq_hub.plan.jsonfile import write_bytes
from limpq_hub.zoo.float_file import FLOAT_FILE, GZIPPED_FLOAT_FILE, float_file_of, unpacked_float
from limpq_hub.zoo.folder import SealedFolder
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.plane_tensors import is_worth_coding, least_bits_each, planes, take_planes
from limpq_hub.zoo.size_check import check_listed_size, parameter_count, tensors_of_network
from limpq_hub.zoo.tensors import tensors_from_bytes, tensors_to_bytes

SUPERNET = "supernet.safetensors"


def write_supernet(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors of a supernet, large ones in half precision as planes of bytes."""
    write_bytes(folder / SUPERNET, _to_bytes(tensors))


def write_float_network(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors of a float network as `write_supernet` does, in the place of a gzipped one."""
    write_bytes(folder / FLOAT_FILE, _to_bytes(tensors))
    (folder / GZIPPED_FLOAT_FILE).unlink(missing_ok=True)


def supernet_tensors(folder: SealedFolder) -> dict[str, Tensor]:
    """Return the tensors of the jointly trained supernet of an entry, once its size says that it can hold the network.

    Raises:
        ArtifactError: the file is damaged, or too small or too large for the network.
    """
    spec = NetworkSpec.from_config(folder.config, folder.name)
    tensors = tensors_of_network(folder, SUPERNET, spec, bits=least_bits_each(folder))
    return with_numbers(tensors, f"{folder.name}/{SUPERNET}")


def check_supernet_size(folder: SealedFolder, spec: NetworkSpec) -> None:
    """Raise `ArtifactFormatError` if the supernet, which is not read, has too few bytes for the network."""
    check_listed_size(folder, SUPERNET, spec, bits=least_bits_each(folder))


def have_same_supernet(first: SealedFolder, second: SealedFolder) -> bool:
    """Return whether two entries have the same joint weights, perhaps in files of different versions.

    Raises:
        ArtifactError: a file is damaged; those that are listed alike are not read.
    """
    if first.config["files"][SUPERNET] == second.config["files"][SUPERNET]:
        return True
    ours, theirs = supernet_tensors(first), supernet_tensors(second)
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def float_tensors(folder: SealedFolder) -> dict[str, Tensor]:
    """Return the tensors of the float network of an entry, bounded as those of `supernet_tensors` are.

    Raises:
        UnknownModelError: the entry holds none.
        ArtifactError: the file is damaged, or too small or too large for the network.
    """
    spec = NetworkSpec.from_config(folder.config, folder.name)
    count, name = parameter_count(spec, folder.name), f"{folder.name}/{float_file_of(folder) or FLOAT_FILE}"
    content = unpacked_float(folder, at_most=4 * count)
    tensors = tensors_from_bytes(content, name)
    if 8 * len(content) < least_bits_each(folder) * count:
        raise ArtifactFormatError(
            f"{name} holds {len(content):,} bytes, too few for the {count:,} numbers of {spec.architecture}; "
            f"{folder.advice}"
        )
    return with_numbers(tensors, name)


def with_numbers(tensors: Mapping[str, Tensor], file: str) -> dict[str, Tensor]:
    """Return the tensors of a file with the numbers in the place of their planes; raises like `take_planes`."""
    plain = dict(tensors)
    numbers = take_planes(plain, file)
    return plain | {name: torch.from_numpy(value) for name, value in numbers.items()}


def _to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    plain = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    halves = [name for name, t in plain.items() if t.dtype == torch.float16 and is_worth_coding(t.nbytes)]
    coded = planes({name: plain.pop(name).numpy() for name in halves})
    return tensors_to_bytes(plain | {name: torch.from_numpy(plane) for name, plane in coded.items()})
