"""The two networks of an entry as its files hold them: the jointly trained supernet, and the float network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limpq_hub.errors import ArtifactFormatError
from limpq_hub.plan.output_file import write_bytes
from limpq_hub.zoo.float_file import FLOAT_FILE, GZIPPED_FLOAT_FILE, float_file_of, unpacked_float
from limpq_hub.zoo.folder import SealedFolder
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.plane_tensors import (
    has_moved_planes,
    is_worth_coding,
    least_bits_of_float,
    least_bits_of_supernet,
    moved_planes,
    planes,
    take_moved_planes,
    take_planes,
)
from limpq_hub.zoo.size_check import check_listed_size, parameter_count, tensors_of_network
from limpq_hub.zoo.tensors import tensors_from_bytes, tensors_to_bytes

SUPERNET = "supernet.safetensors"


def write_supernet(folder: Path, tensors: Mapping[str, Tensor], *, whole_places: int = 1) -> None:
    """Write the tensors of a supernet, large ones in half precision as planes of bytes.

    Where the folder holds a float network, in a file of this version, the planes say how far they moved from it.

    Args:
        whole_places: as `limpq_hub.quant.moved_planes.rounded_moves` takes it: above 1, near numbers in fewer bytes.
    """
    plain, halves = _split(tensors)
    if not (folder / FLOAT_FILE).exists():
        coded = planes(halves)
    else:
        content = (folder / FLOAT_FILE).read_bytes()
        origins = with_numbers(tensors_from_bytes(content, FLOAT_FILE), FLOAT_FILE)
        sha256 = hashlib.sha256(content).hexdigest()
        coded = moved_planes(halves, _arrays(origins), sha256, whole_places=whole_places)
    _write(folder / SUPERNET, plain, coded)


def write_float_network(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors of a float network, large ones in half precision as planes, in the place of a gzipped file.

    A supernet that the folder holds already may need the file that was there: it is to be written after this.
    """
    write_in_planes(folder / FLOAT_FILE, tensors)
    (folder / GZIPPED_FLOAT_FILE).unlink(missing_ok=True)


def write_in_planes(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a file of tensors, large ones in half precision as planes of bytes; `with_numbers` reads it."""
    plain, halves = _split(tensors)
    _write(path, plain, planes(halves))


def supernet_tensors(folder: SealedFolder) -> dict[str, Tensor]:
    """Return the tensors of the jointly trained supernet of an entry, once its size says that it can hold the network.

    Raises:
        ArtifactError: the file is damaged, too small or too large for the network, or not of this float network.
    """
    spec, name = NetworkSpec.from_config(folder.config, folder.name), f"{folder.name}/{SUPERNET}"
    tensors = with_numbers(tensors_of_network(folder, SUPERNET, spec, bits=least_bits_of_supernet(folder)), name)
    if not has_moved_planes(tensors):
        return tensors
    if FLOAT_FILE not in folder.files:
        raise ArtifactFormatError(f"{name} needs {FLOAT_FILE}, which the entry does not hold; {folder.advice}")
    sha256 = folder.config["files"][FLOAT_FILE]["sha256"]
    numbers = take_moved_planes(tensors, _arrays(float_tensors(folder)), sha256, name)
    return tensors | {key: torch.from_numpy(value) for key, value in numbers.items()}


def check_supernet_size(folder: SealedFolder, spec: NetworkSpec) -> None:
    """Raise `ArtifactFormatError` if the supernet, which is not read, has too few bytes for the network."""
    check_listed_size(folder, SUPERNET, spec, bits=least_bits_of_supernet(folder))


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
    if 8 * len(content) < least_bits_of_float(folder) * count:
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


def _split(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, np.ndarray]]:
    """Return what a file holds as it is, and what it holds in planes."""
    plain = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    halves = [name for name, t in plain.items() if t.dtype == torch.float16 and is_worth_coding(t.nbytes)]
    return plain, {name: plain.pop(name).numpy() for name in halves}


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return the tensors in half precision, those that others can have moved from."""
    return {name: tensor.numpy() for name, tensor in tensors.items() if tensor.dtype == torch.float16}


def _write(path: Path, plain: Mapping[str, Tensor], coded: Mapping[str, np.ndarray]) -> None:
    write_bytes(path, tensors_to_bytes({**plain, **{name: torch.from_numpy(plane) for name, plane in coded.items()}}))
