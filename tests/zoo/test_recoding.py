"""Tests of entries and checkpoints of earlier versions: read, and written anew in fewer bytes with the same numbers."""

import gzip
import hashlib
import json
import re

import pytest
import torch
from safetensors.torch import load, load_file, save, save_file

from limpq_hub.errors import (
    ArtifactError,
    ArtifactFormatError,
    ArtifactIntegrityError,
    ArtifactVersionError,
    quoted,
)
from limpq_hub.quant.packing import pack
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.train import publish
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.checkpoint import load_checkpoint
from limpq_hub.zoo.entry_folder import load_float_network, load_supernet, save_entry, save_float_network
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


@pytest.fixture
def older(with_float, of_format_2, float_network, tiny, reseal):
    """The same with a float network, both networks as formats 1 to 4 had them: plain halves, the float file gzipped."""
    halves = {"supernet.safetensors": own_state(tiny.supernet), "float.safetensors.gz": own_state(float_network)}
    for file, state in halves.items():
        data = save({
            name: value.half() if value.ndim > 1 and not name.endswith(".step") else value
            for name, value in state.items()
        })  # fmt: skip
        (of_format_2 / file).write_bytes(gzip.compress(data) if file.endswith(".gz") else data)
    (of_format_2 / "float.safetensors").unlink()
    reseal(of_format_2, format=2, half_coding=None)
    return of_format_2


def networks(folder) -> list[dict[str, torch.Tensor]]:
    """Return the state of the supernet and of the float network of an entry."""
    entry = find_entry(f"local-dir:{folder}")
    return [own_state(load_supernet(entry.folder, entry.indicators)), own_state(load_float_network(entry.folder))]


def networks_of_supernet(folder) -> list[dict[str, torch.Tensor]]:
    """Return the state of the supernet alone."""
    entry = find_entry(f"local-dir:{folder}")
    return [own_state(load_supernet(entry.folder, entry.indicators))]


def same(states: list[dict[str, torch.Tensor]], others: list[dict[str, torch.Tensor]]) -> bool:
    """Return whether networks have the same tensors, to the bit."""
    return all(
        one.keys() == other.keys() and all(one[name].numpy().tobytes() == other[name].numpy().tobytes() for name in one)
        for one, other in zip(states, others, strict=True)
    )


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


# The networks of an entry


def test_an_entry_of_an_earlier_format_is_read_as_the_same_networks(older, tiny, float_network):
    states = [own_state(tiny.supernet), own_state(float_network.eval())]
    expected = [
        {name: value.half().float() if value.ndim > 1 and not name.endswith(".step") else value for name, value in
         state.items()} for state in states
    ]  # fmt: skip
    assert json.loads((older / "config.json").read_text())["format"] == 2
    assert same(networks(older), expected)


def test_publishing_recodes_the_networks_to_the_same_tensors_in_fewer_bytes(older, tiny, tmp_path):
    publish.main(["--joint", str(older), "--output", str(tmp_path / "entry"), "--recode"])
    folder = tmp_path / "entry"
    assert same(networks(folder), networks(older))
    assert (folder / "supernet.safetensors").read_bytes() == (tiny.folder / "supernet.safetensors").read_bytes()
    assert (folder / "supernet.safetensors").stat().st_size < (older / "supernet.safetensors").stat().st_size
    assert (folder / "float.safetensors").stat().st_size < (older / "float.safetensors.gz").stat().st_size
    assert not (folder / "float.safetensors.gz").exists()
    config = json.loads((folder / "config.json").read_text())
    assert (config["format"], config["half_coding"]) == (5, "byte-planes")
    assert "float.safetensors.gz" not in config["files"]


def test_what_is_published_without_recoding_keeps_its_files_and_its_format(older, tmp_path):
    publish.main(["--joint", str(older), "--output", str(tmp_path / "entry")])
    for file in ("supernet.safetensors", "float.safetensors.gz"):
        assert (tmp_path / "entry" / file).read_bytes() == (older / file).read_bytes()
    config = json.loads((tmp_path / "entry/config.json").read_text())
    assert config["format"] == 2
    assert "half_coding" not in config


def test_recoding_again_changes_nothing(older, tmp_path):
    publish.main(["--joint", str(older), "--output", str(tmp_path / "once"), "--recode"])
    publish.main(["--joint", str(tmp_path / "once"), "--output", str(tmp_path / "twice"), "--recode"])
    for path in (tmp_path / "once").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "twice" / path.relative_to(tmp_path / "once")).read_bytes(), path.name


@pytest.mark.parametrize("is_of_this_supernet", [True, False])
def test_a_front_stays_that_of_the_recoded_weights(older, tmp_path, reseal, is_of_this_supernet):
    def sha256_of(folder) -> str:
        return hashlib.sha256((folder / "supernet.safetensors").read_bytes()).hexdigest()

    metrics = json.loads((older / "metrics.json").read_text())
    measured = sha256_of(older) if is_of_this_supernet else "0" * 64
    metrics["joint_provenance"] = {"supernet_sha256": measured, "seed": 3}
    (older / "metrics.json").write_text(json.dumps(metrics))
    reseal(older)
    publish.main(["--joint", str(older), "--output", str(tmp_path / "entry"), "--recode"])
    provenance = json.loads((tmp_path / "entry/metrics.json").read_text())["joint_provenance"]
    expected = sha256_of(tmp_path / "entry") if is_of_this_supernet else measured
    assert provenance == {"supernet_sha256": expected, "seed": 3}


@pytest.mark.parametrize("file", ["supernet.safetensors", "float.safetensors.gz"])
def test_networks_that_do_not_fit_are_not_recoded(older, tmp_path, reseal, file):
    packed = file.endswith(".gz")
    data = (older / file).read_bytes()
    tensors = load(gzip.decompress(data) if packed else data)
    del tensors["fc.bias"]
    (older / file).write_bytes(gzip.compress(save(tensors)) if packed else save(tensors))
    reseal(older)
    with pytest.raises(ArtifactError, match=r"tensor fc\.bias is missing"):
        publish.main(["--joint", str(older), "--output", str(tmp_path / "entry"), "--recode"])
    assert not (tmp_path / "entry").exists()


@pytest.mark.parametrize("coding", ["zstd", "", 3, ["byte-planes"], {}, True], ids=str)
@pytest.mark.parametrize("which", [0, 1], ids=["supernet", "float"])
def test_a_coding_that_this_version_does_not_know_is_refused(with_float, reseal, coding, which):
    reseal(with_float, half_coding=coding)
    entry = find_entry(f"local-dir:{with_float}")
    message = rf"config\.json: half_coding {re.escape(quoted(coding))} is not 'byte-planes' or 'moved-planes', those "
    advice = "that this version reads; upgrade limpq-hub, or fetch the artifact again$"
    with pytest.raises(ArtifactVersionError, match=message + advice):
        [lambda: load_supernet(entry.folder, entry.indicators), lambda: load_float_network(entry.folder)][which]()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({".low": None}, r"tensor {name}\.low is missing"),
        ({".high_coded": None}, r"tensor {name} is missing"),
        ({"": torch.ones(3)}, r"tensor {name} is there twice, as such and as {name}\.high_coded"),
        ({".low": torch.zeros(3, dtype=torch.uint8)}, r"tensor {name}\.high_coded: its stream holds more than the"),
        ({".low": torch.zeros(3)}, r"tensor {name}\.high_coded: low bytes are of uint8, found float32"),
        ({".high_coded": torch.zeros(3)}, r"tensor {name}\.high_coded: a stream is of uint8 in one dimension, found f"),
        ({".high_coded": torch.zeros(9, dtype=torch.uint8)}, r"tensor {name}\.high_coded: its bytes are no zlib"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
@pytest.mark.parametrize(("which", "file"), [(0, "supernet.safetensors"), (1, "float.safetensors")])
def test_damaged_planes_are_refused_by_tensor(with_float, reseal, changes, message, which, file):
    name = "layer2.0.conv1.weight"
    tensors = load_file(with_float / file) | {name + plane: value for plane, value in changes.items()}
    save_file({key: value for key, value in tensors.items() if value is not None}, with_float / file)
    reseal(with_float)
    entry = find_entry(f"local-dir:{with_float}")
    with pytest.raises(ArtifactFormatError, match=rf"/{re.escape(file)}: " + message.format(name=re.escape(name))):
        [lambda: load_supernet(entry.folder, entry.indicators), lambda: load_float_network(entry.folder)][which]()


# A supernet that is told by how far it moved from the float network


@pytest.fixture
def moved(entry_copy, tiny, float_network):
    """An entry whose supernet was trained from the float network beside it, and where that network's file was first."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        start = {
            name: value for name, value in tiny.supernet.state_dict().items() if name in float_network.state_dict()
        }
        float_network.load_state_dict(start, strict=False)
        for value in float_network.parameters():
            value += 1e-3 * value.std(correction=0) * torch.randn(value.shape, generator=generator)
    save_float_network(entry_copy, float_network)
    save_entry(entry_copy, tiny.supernet, tiny.indicators, json.loads((entry_copy / "classes.json").read_text()))
    return entry_copy


def test_a_supernet_near_its_float_network_takes_fewer_bytes_and_its_weights_are_within_a_five_hundredth(moved, tiny):
    (near,), (exact,) = networks(moved)[:1], networks_of_supernet(tiny.folder)
    assert near.keys() == exact.keys()
    differ = {name for name in exact if not torch.equal(near[name], exact[name])}
    assert "layer2.0.conv1.weight" in differ
    assert all(name.endswith(".weight") and exact[name].ndim > 1 for name in differ)
    for name in differ:
        assert ((near[name] - exact[name]).abs() <= 2**-9 * exact[name].abs() + 2**-23).all(), name
    file = "supernet.safetensors"
    assert (moved / file).stat().st_size < 0.8 * (tiny.folder / file).stat().st_size
    config = json.loads((moved / "config.json").read_text())
    assert (config["format"], config["half_coding"]) == (6, "moved-planes")
    assert "layer2.0.conv1.weight.moved_high" in load_file(moved / file)


def test_recoding_finds_the_float_network_that_a_supernet_moved_from(moved, with_float, tmp_path):
    """As it does for an entry whose supernet was written before there was one."""
    for name, source in (("again", moved), ("first", with_float)):
        publish.main(["--joint", str(source), "--output", str(tmp_path / name), "--recode"])
        assert same(networks(tmp_path / name), networks(source))
    assert (tmp_path / "again/supernet.safetensors").read_bytes() == (moved / "supernet.safetensors").read_bytes()


def test_another_float_network_beside_it_is_refused(moved, float_network, reseal):
    with torch.no_grad():
        float_network.fc.weight += 1
    save_float_network(moved, float_network)
    reseal(moved)
    with pytest.raises(ArtifactIntegrityError, match="supernet.safetensors was written beside another float network"):
        networks_of_supernet(moved)


def test_without_its_float_network_it_is_refused(moved, reseal):
    (moved / "float.safetensors").unlink()
    reseal(moved)
    with pytest.raises(ArtifactFormatError, match=r"supernet\.safetensors needs float\.safetensors, which the entry"):
        networks_of_supernet(moved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({".moved_low": None}, r"tensor {name}\.moved_low is missing"),
        ({".moved_high": None}, r"tensor {name} is missing"),
        ({"": torch.ones(3)}, r"tensor {name} is there twice, as such and as {name}\.moved_high"),
        ({".moved_low": torch.zeros(3)}, r"tensor {name}\.moved_high: a stream is of uint8 in one dimension, found f"),
        ({".moved_high": torch.zeros(9, dtype=torch.uint8)}, r"tensor {name}\.moved_high: its bytes are no zlib"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_damaged_planes_of_moves_are_refused_by_tensor(moved, reseal, changes, message):
    name, file = "layer2.0.conv1.weight", moved / "supernet.safetensors"
    tensors = load_file(file) | {name + plane: value for plane, value in changes.items()}
    save_file({key: value for key, value in tensors.items() if value is not None}, file)
    reseal(moved)
    with pytest.raises(ArtifactFormatError, match=r"/supernet\.safetensors: " + message.format(name=re.escape(name))):
        networks_of_supernet(moved)


def test_moves_of_a_tensor_that_the_float_network_lacks_are_refused(moved, reseal):
    file = moved / "supernet.safetensors"
    tensors = load_file(file)
    for plane in (".moved_high", ".moved_low"):
        tensors["stranger" + plane] = tensors.pop("layer2.0.conv1.weight" + plane)
    save_file(tensors, file)
    reseal(moved)
    with pytest.raises(ArtifactFormatError, match="tensor stranger moved from one that the float network does not"):
        networks_of_supernet(moved)
