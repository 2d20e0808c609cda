"""The float network as a file of an entry: what it unpacks to, and what is refused before anything is read from it."""

import gzip
import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save

from limpq_hub.errors import ArtifactFormatError, ArtifactIntegrityError, UnknownModelError, UnsafeFileError
from limpq_hub.zoo.entry_folder import load_float_network, save_float_network
from limpq_hub.zoo.float_file import FLOAT_FILE, GZIPPED_FLOAT_FILE, float_weights, unpacked_float
from limpq_hub.zoo.folder import open_local_folder

LAYER = "layer2.0.conv1"
CONTENTS = [b"weights", b"", b"\xff" * 100, (2).to_bytes(8, "little") + b"[]", (2).to_bytes(8, "little") + b"{}more"]
PACKED = gzip.compress(b"weights" * 99)
MEBIBYTE = 2**20  # what a header may come to, on top of the weights


def read_network(folder, costs):
    return load_float_network(open_local_folder(folder, "entry"))


def read_weights(folder, costs):
    return float_weights(open_local_folder(folder, "entry"), costs)


BOTH = pytest.mark.parametrize("read", [read_network, read_weights])


@pytest.fixture
def written(with_float, reseal):
    """A function that puts other tensors, or other bytes, in the place of the file, and lists it anew.

    Tensors are those of the file, with the given ones changed; None takes one out.
    """
    path = with_float / FLOAT_FILE

    def write(changes: dict[str, torch.Tensor | None] | bytes) -> None:
        if isinstance(changes, dict):
            tensors = load_tensors(path.read_bytes())
            for name, value in changes.items():
                for key in (name, f"{name}.high_coded", f"{name}.low"):
                    tensors.pop(key, None)
                if value is not None:
                    tensors[name] = value
            changes = save(tensors)
        path.write_bytes(changes)
        reseal(with_float)

    return write


@pytest.fixture
def gzipped(with_float, reseal):
    """A function that puts bytes in the place of the file under the name that a gzipped one has."""

    def write(data: bytes) -> None:
        (with_float / FLOAT_FILE).unlink(missing_ok=True)
        (with_float / GZIPPED_FLOAT_FILE).write_bytes(data)
        reseal(with_float)

    return write


# The file


@BOTH
def test_an_entry_without_a_float_network_says_what_to_give_instead(tiny, read):
    message = f"{tiny.folder} holds no float.safetensors; give an entry that holds its float network"
    with pytest.raises(UnknownModelError, match=f"^{re.escape(message)}$"):
        read(tiny.folder, tiny.costs)


@BOTH
def test_a_float_network_that_is_not_sealed_is_none_of_the_entry(entry_copy, float_network, tiny, read):
    before = (entry_copy / "config.json").read_bytes()
    save_float_network(entry_copy, float_network)
    assert (entry_copy / "config.json").read_bytes() == before
    with pytest.raises(UnknownModelError, match="holds no float.safetensors"):
        read(entry_copy, tiny.costs)


@BOTH
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_a_damaged_float_network_is_refused_by_name(with_float, tiny, read, damage):
    path = with_float / FLOAT_FILE
    data = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(data[:-100] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    message = r"/float\.safetensors is (damaged: its \d+ bytes are not|missing; fetch the artifact again)"
    with pytest.raises(ArtifactIntegrityError, match=message):
        read(with_float, tiny.costs)


@BOTH
@pytest.mark.parametrize("content", CONTENTS, ids=str)
def test_a_float_network_that_is_no_safetensors_file_is_refused(with_float, written, tiny, read, content):
    written(content)
    with pytest.raises(ArtifactFormatError, match=r"/float\.safetensors is not a safetensors file: "):
        read(with_float, tiny.costs)


@BOTH
@pytest.mark.parametrize("content", CONTENTS, ids=str)
def test_a_float_network_that_unpacks_to_no_safetensors_file_is_refused(with_float, gzipped, tiny, read, content):
    gzipped(gzip.compress(content))
    with pytest.raises(ArtifactFormatError, match=r"/float\.safetensors\.gz is not a safetensors file: "):
        read(with_float, tiny.costs)


@BOTH
@pytest.mark.parametrize(
    "data",
    [
        b"weights",
        PACKED[:-4],
        PACKED[:-4] + b"none",
        PACKED + b"more",
        PACKED[:15] + b"\xff" * 40,
    ],
    ids=["not packed", "cut", "of another length", "with more behind it", "of another content"],
)
def test_a_float_network_that_is_no_gzip_file_is_refused(with_float, gzipped, tiny, read, data):
    gzipped(data)
    with pytest.raises(
        ArtifactFormatError, match=r"/float\.safetensors\.gz is not a gzip file; fetch the artifact again$"
    ):
        read(with_float, tiny.costs)


@BOTH
@pytest.mark.parametrize(
    "data", [gzip.compress(bytes(2**24)), gzip.compress(bytes(2**23)) * 2], ids=["one", "in two parts"]
)
def test_a_float_network_that_unpacks_to_more_than_its_weights_is_refused(with_float, gzipped, tiny, read, data):
    gzipped(data)
    message = r"/float\.safetensors\.gz holds more than the weights of the network; fetch the artifact again$"
    with pytest.raises(ArtifactFormatError, match=message):
        read(with_float, tiny.costs)


@BOTH
@pytest.mark.parametrize("form", ["written", "gzipped"])
def test_a_pickle_in_its_place_is_not_read(with_float, request, tiny, read, form):
    request.getfixturevalue(form)(b"\x80\x04\x8c\x01a.")
    with pytest.raises(UnsafeFileError, match=r"float\.safetensors(\.gz)? is a pickle, which can execute code"):
        read(with_float, tiny.costs)


@pytest.mark.parametrize("at_most", [0, 1, 1000])
def test_what_is_unpacked_has_a_limit_that_holds_to_the_byte(with_float, gzipped, at_most):
    content = bytes(at_most + MEBIBYTE)
    gzipped(gzip.compress(content))
    assert unpacked_float(open_local_folder(with_float, "entry"), at_most) == content
    gzipped(gzip.compress(content + b"\0"))
    with pytest.raises(ArtifactFormatError, match="holds more than the weights of the network; fetch the artifact"):
        unpacked_float(open_local_folder(with_float, "entry"), at_most)


def test_little_of_a_file_that_unpacks_to_far_too_much_is_unpacked(with_float, gzipped, monkeypatch):
    asked = []
    unpack = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda file, size=-1: asked.append(size) or unpack(file, size))
    gzipped(gzip.compress(bytes(2**26)))
    with pytest.raises(ArtifactFormatError, match="holds more than the weights of the network"):
        unpacked_float(open_local_folder(with_float, "entry"), 1000)
    assert asked == [1000 + MEBIBYTE + 1]


@BOTH
def test_a_file_that_is_listed_larger_than_its_weights_is_not_read(with_float, reseal, tiny, read):
    with (with_float / FLOAT_FILE).open("r+b") as file:
        file.truncate(2**27)
    reseal(with_float)
    (with_float / FLOAT_FILE).unlink()
    message = r"/float\.safetensors holds more than the weights of the network; fetch the artifact again$"
    with pytest.raises(ArtifactFormatError, match=message):
        read(with_float, tiny.costs)


# What versions before format 5 wrote


def test_a_gzipped_float_network_is_read_as_the_same_network(with_float, gzipped, tiny, reseal):
    folder = open_local_folder(with_float, "entry")
    state, weights = load_float_network(folder).state_dict(), float_weights(folder, tiny.costs)
    halved = {name: value.half() if value.ndim > 1 else value for name, value in state.items()}
    gzipped(gzip.compress(save(halved)))
    older = open_local_folder(with_float, "entry")
    found = load_float_network(older).state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    for name, weight in float_weights(older, tiny.costs).items():
        assert np.array_equal(weight, weights[name]), name


def test_saving_takes_a_gzipped_float_network_away(with_float, gzipped, float_network):
    gzipped(b"older")
    save_float_network(with_float, float_network)
    assert (with_float / FLOAT_FILE).exists()
    assert not (with_float / GZIPPED_FLOAT_FILE).exists()


# The weights by layer


def test_the_weights_of_each_layer_come_flat_in_single_precision_as_half_precision_leaves_them(
    with_float, float_network, tiny
):
    found = float_weights(open_local_folder(with_float, "entry"), tiny.costs)
    assert list(found) == list(tiny.costs)
    modules = dict(float_network.named_modules())
    for name, weight in found.items():
        assert weight.dtype == np.float32
        assert weight.shape == (tiny.costs[name].weights,)
        halved = modules[name].weight.detach().to(torch.float16).to(torch.float32)
        assert np.array_equal(weight, halved.flatten().numpy()), name


def test_they_are_the_weights_of_the_network_that_loads_from_the_same_file(with_float, tiny):
    folder = open_local_folder(with_float, "entry")
    modules = dict(load_float_network(folder).named_modules())
    for name, weight in float_weights(folder, tiny.costs).items():
        assert np.array_equal(weight, modules[name].weight.detach().flatten().numpy()), name


def test_only_the_layers_that_are_asked_for_are_given_and_other_tensors_do_not_matter(with_float, written, tiny):
    written({"extra": torch.ones(3), "fc.bias": None})
    found = float_weights(open_local_folder(with_float, "entry"), {LAYER: tiny.costs[LAYER]})
    assert list(found) == [LAYER]


@pytest.mark.parametrize("tensor", [None, torch.ones(7), torch.ones(0)], ids=["missing", "too small", "empty"])
def test_a_layer_without_its_weights_is_named(with_float, written, tiny, tensor):
    written({f"{LAYER}.weight": tensor})
    message = rf"/float\.safetensors: tensor {LAYER}\.weight should hold {tiny.costs[LAYER].weights} numbers$"
    with pytest.raises(ArtifactFormatError, match=message):
        float_weights(open_local_folder(with_float, "entry"), tiny.costs)


def test_a_kind_of_number_that_numpy_lacks_is_refused(with_float, written, tiny):
    weight = torch.ones(tiny.costs[LAYER].weights, dtype=torch.bfloat16)
    written({f"{LAYER}.weight": weight})
    with pytest.raises(ArtifactFormatError, match=r"/float\.safetensors is not a safetensors file: .*BF16"):
        float_weights(open_local_folder(with_float, "entry"), tiny.costs)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_no_finite_number_is_refused_by_its_tensor(with_float, written, tiny, value):
    weight = torch.ones(tiny.costs[LAYER].weights)
    weight[3] = value
    written({f"{LAYER}.weight": weight})
    with pytest.raises(ArtifactFormatError, match=rf"/float\.safetensors: tensor {LAYER}\.weight"):
        float_weights(open_local_folder(with_float, "entry"), tiny.costs)


def test_the_weights_are_read_without_torch(run_python, with_float):
    code = (
        "import json, sys\n"
        "from limpq_hub.zoo.catalog import find_entry\n"
        "from limpq_hub.zoo.float_file import float_weights\n"
        f"entry = find_entry({f'local-dir:{with_float}'!r})\n"
        "weights = float_weights(entry.folder, entry.indicators.costs)\n"
        "heavy = sorted({'torch', 'timm', 'torchvision', 'huggingface_hub'} & set(sys.modules))\n"
        "print(json.dumps([heavy, {name: float(weight.sum()) for name, weight in weights.items()}]))"
    )
    result = run_python(code)
    assert (result.stderr, result.returncode) == ("", 0)
    heavy, sums = json.loads(result.stdout)
    assert heavy == []
    assert set(sums) == set(open_local_folder(with_float, "entry").read_json("indicators.json")["layers"])
