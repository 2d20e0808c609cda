"""Tests of checkpoints of earlier versions: they are read, and written anew in fewer bytes with the same integers."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from limpq_hub.errors import ArtifactError
from limpq_hub.quant.packing import pack
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.train import publish
from limpq_hub.zoo.checkpoint import load_checkpoint
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.recoding import recode_checkpoint
from limpq_hub.zoo.tensors import own_state


@pytest.fixture
def of_format_2(entry_copy, tiny, reseal):
    """A copy of the entry whose checkpoints have every weight bit-packed, as formats 1 to 3 have."""
    for name, policy in tiny.policies.items():
        path = entry_copy / "policies" / name / "model.safetensors"
        tensors = load_file(path)
        for layer, module in quantized_layers(tiny.checkpoints[name]):
            tensors.pop(f"{layer}.weight_coded", None)
            bits = policy.layers[layer].weight
            packed = pack(module.weight_integers(bits).numpy(), bits)
            tensors[f"{layer}.weight_packed"] = torch.from_numpy(packed)
        save_file(tensors, path)
        reseal(path.parent, format=2, weight_coding=None)
    return entry_copy


def read(folder):
    return load_checkpoint(open_local_folder(folder, "checkpoint"))[0]


@pytest.mark.parametrize("name", ["small", "large"])
def test_a_checkpoint_of_an_earlier_format_is_read_as_the_same_network(of_format_2, tiny, name):
    before, now = own_state(read(of_format_2 / "policies" / name)), own_state(read(tiny.folder / "policies" / name))
    assert before.keys() == now.keys()
    assert all(torch.equal(before[key], now[key]) for key in now)


@pytest.mark.parametrize("name", ["small", "large"])
def test_recoding_writes_the_file_that_saving_would_have_written(of_format_2, tiny, name):
    folder, fresh = of_format_2 / "policies" / name, tiny.folder / "policies" / name
    recode_checkpoint(open_local_folder(folder, "checkpoint"), folder)
    assert (folder / "model.safetensors").read_bytes() == (fresh / "model.safetensors").read_bytes()
    recoded, saved = (json.loads((path / "config.json").read_text()) for path in (folder, fresh))
    assert {**recoded, "config_sha256": None} == {**saved, "config_sha256": None}  # the order of keys may differ


def test_publishing_recodes_where_that_is_asked_for_alone(of_format_2, tiny, tmp_path):
    def published(*options: str) -> dict[str, bytes]:
        folder = tmp_path / f"entry{len(options)}"
        publish.main(["--joint", str(of_format_2), "--output", str(folder), *options])
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("policies/*/*")}

    as_it_was, recoded = published(), published("--recode")
    for file, data in as_it_was.items():
        assert data == (of_format_2 / file).read_bytes()
        name = file.rpartition("/")[2]
        assert (recoded[file] == data) == (name in ("policy.json", "metrics.json"))
        if name == "model.safetensors":
            assert recoded[file] == (tiny.folder / file).read_bytes()
            assert len(recoded[file]) < len(data)


def test_what_does_not_fit_its_network_is_not_recoded(of_format_2, reseal):
    folder = of_format_2 / "policies/small"
    tensors = load_file(folder / "model.safetensors")
    del tensors["fc.bias"]
    save_file(tensors, folder / "model.safetensors")
    reseal(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ArtifactError, match=r"tensor fc\.bias is missing"):
        recode_checkpoint(open_local_folder(folder, "checkpoint"), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
