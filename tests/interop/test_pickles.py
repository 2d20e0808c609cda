"""Tests of the authors' indicator pickles: read exactly, never executed, and matched with the network by layer."""

import collections
import json
import math
import pickle
import random
import re
import struct
import time

import pytest

from limpq_hub.errors import ArtifactError, ArtifactFormatError, UnsafeFileError
from limpq_hub.interop import import_limpq_indicators, read_limpq_pickle
from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.layer_bits import LayerBits

PROTOCOLS = range(2, 6)
WIDTHS = (2, 3, 4)


@pytest.fixture
def write(tmp_path):
    """A function that writes bytes, or pickles a value, and returns the path."""

    def written(content, protocol: int = 4):
        path = tmp_path / "indicators.pkl"
        path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
        return path

    return written


@pytest.fixture
def costs():
    """Two searched layers between two fixed ones."""
    fixed = {"stem": LayerBits(8, 8), "head": LayerBits(8, 8)}
    return {
        name: LayerCost(1000, 1000, 100, 64, signed=name == "stem", fixed=fixed.get(name))
        for name in ("stem", "block.conv1", "block.conv2", "head")
    }


@pytest.fixture
def published():
    """What the authors' pickles hold: a step per bit-width, layer names as DistributedDataParallel gives them."""
    names = ["module.stem", "module.block.conv1", "module.block.conv2", "module.head"]
    return {
        kind: {name: {bits: 0.1 * index + 1 / bits for bits in WIDTHS} for index, name in enumerate(names)}
        for kind in ("weight", "act")
    }


def read_or_refuse(path) -> tuple[object, str]:
    """The content of a pickle, or None and the message of the refusal."""
    try:
        return read_limpq_pickle(path), ""
    except ArtifactError as error:
        return None, str(error)


def plain_value(rng: random.Random, depth: int = 0):
    """A random value of the plain kinds, nested."""
    kinds = [
        lambda: rng.randrange(-(2**40), 2**40),
        lambda: rng.randrange(300),
        lambda: -rng.randrange(70_000),
        lambda: 2 ** rng.randrange(600),
        lambda: rng.uniform(-1e9, 1e9),
        lambda: rng.choice([True, False, None, math.inf, -0.0, 5e-324]),
        lambda: "".join(rng.choice("aé漢🎈\n\0") for _ in range(rng.randrange(300))),
    ]
    if depth < 4:
        kinds += [
            lambda: [plain_value(rng, depth + 1) for _ in range(rng.randrange(5))],
            lambda: {str(key): plain_value(rng, depth + 1) for key in range(rng.randrange(5))},
            lambda: {key: plain_value(rng, depth + 1) for key in range(rng.randrange(3))},
        ]
    return rng.choice(kinds)()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data_is_read_exactly_as_pickle_reads_it(write, protocol):
    rng = random.Random(protocol)
    for _ in range(100):
        content = {"weight": plain_value(rng), "act": [plain_value(rng) for _ in range(4)], 3: plain_value(rng)}
        path = write(content, protocol)
        found, expected = read_limpq_pickle(path), pickle.loads(path.read_bytes())
        # repr tells 1 from True and 1.0, and -0.0 from 0.0.
        assert repr(found) == repr(expected) == repr(content)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_and_many_values_keep_their_identity_and_order(write, protocol):
    shared = {"step": 0.5}
    content = {"many": {f"layer{index}": shared for index in range(2500)}, "list": list(range(2500))}
    found = read_limpq_pickle(write(content, protocol))
    assert found == content
    assert list(found["many"]) == list(content["many"])
    assert found["many"]["layer0"] is found["many"]["layer2499"]


@pytest.mark.parametrize("protocol", [0, 1])
def test_the_text_protocols_are_read_right_or_refused(write, protocol):
    content = {"weight": {"a": {2: 0.5, 3: 0.25}}, "act": [1, -1, 2**40, True, None, "é"]}
    found, refusal = read_or_refuse(write(content, protocol))
    assert refusal or repr(found) == repr(content)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_execute_code_is_refused_and_not_executed(write, malicious, tmp_path, protocol):
    for content in (malicious, {"weight": malicious}, {"weight": {}, "act": [1, {"deep": malicious}]}):
        path = write(content, protocol)
        with pytest.raises(
            UnsafeFileError, match=r"indicators\.pkl: the pickle operation [A-Z_]+ builds more than plain"
        ):
            read_limpq_pickle(path)
        assert not (tmp_path / "executed.txt").exists()
    pickle.loads(path.read_bytes())
    assert (tmp_path / "executed.txt").exists(), "the payload is harmless, so this test shows nothing"


@pytest.mark.parametrize(
    ("payload", "operation"),
    [
        (b"cos\nsystem\n(S'touch executed.txt'\ntR.", "GLOBAL"),
        (b"(S'touch executed.txt'\nios\nsystem\n.", "STRING|INST"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x14touch executed.txt\x85R.", "STACK_GLOBAL"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02}U\x01ai\n.", "SHORT_BINSTRING"),
        (b"\x80\x02Pid\n.", "PERSID"),
        (b"\x80\x04}\x8c\x01aC\x01bs.", "SHORT_BINBYTES"),
    ],
)
def test_hand_written_operations_are_refused_by_name(write, tmp_path, monkeypatch, payload, operation):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafeFileError, match=rf"the pickle operation ({operation}) builds more than plain values"):
        read_limpq_pickle(write(payload))
    assert not (tmp_path / "executed.txt").exists()


@pytest.mark.parametrize("value", [(1, 2), {1}, b"bytes", 1j, collections.OrderedDict(a=1), bytearray(b"x"), range(3)])
def test_values_that_are_not_plain_are_refused(write, value):
    with pytest.raises(
        UnsafeFileError, match=r"the pickle operation [A-Z_0-9]+ builds more than plain values; nothing"
    ):
        read_limpq_pickle(write({"weight": value}))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_truncated_pickle_is_refused_at_every_byte(write, published, protocol):
    data = pickle.dumps(published, protocol)
    for length in range(len(data)):
        with pytest.raises(ArtifactFormatError, match=r"indicators\.pkl is not a pickle that can be read: "):
            read_limpq_pickle(write(data[:length]))


def test_a_flipped_bit_gives_plain_values_or_a_refusal_and_nothing_else(write, published):
    data, rng = pickle.dumps(published, 4), random.Random(0)
    refusals = 0
    for _ in range(1000):
        position, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
        path = write(data[:position] + bytes([data[position] ^ bit]) + data[position + 1 :])
        found, refusal = read_or_refuse(path)
        assert isinstance(found, dict) != ("indicators.pkl" in refusal)
        refusals += bool(refusal)
    assert refusals > 100


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\x89PNG\r\n\x1a\n", b"hello world", b"\x80\x02", b"." * 10, b"\x80\x04s."]
)
def test_what_is_no_pickle_is_refused(write, data):
    message = r"indicators\.pkl(: the pickle operation| is not a pickle that can be read| holds no dictionary)"
    with pytest.raises(ArtifactError, match=message):
        read_limpq_pickle(write(data))


@pytest.mark.parametrize("value", [[1, 2], "text", 3, None, True, 0.5])
def test_a_pickle_without_a_dictionary_is_refused(write, value):
    message = r"indicators\.pkl holds no dictionary; is it an indicator file of the LIMPQ authors\?"
    with pytest.raises(ArtifactFormatError, match=message):
        read_limpq_pickle(write(value))


def test_a_huge_length_is_refused_without_memory(write):
    data = b"\x80\x04}\x8d" + struct.pack("<Q", 2**62) + b"abc"
    with pytest.raises(ArtifactError, match=r"indicators\.pkl"):
        read_limpq_pickle(write(data))


def test_a_missing_pickle_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.pkl"):
        read_limpq_pickle(tmp_path / "missing.pkl")


def imported(path, costs):
    return import_limpq_indicators(path, model="toynet", input_size=32, num_classes=10, costs=costs)


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_indicators_are_imported_for_the_searched_layers(write, published, costs, prefix):
    content = {
        kind: {name.replace("module.", prefix): steps for name, steps in layers.items()}
        for kind, layers in published.items()
    }
    indicators = imported(write(content), costs)
    assert (indicators.model, indicators.input_size, indicators.num_classes) == ("toynet", 32, 10)
    for kind, steps in (("weight", indicators.weight_steps), ("act", indicators.activation_steps)):
        assert {name: dict(of_layer) for name, of_layer in steps.items()} == {
            name: published[kind][f"module.{name}"] for name in ("block.conv1", "block.conv2")
        }
    assert indicators.candidates == (4, 3, 2)
    assert indicators.provenance["imported_from"] == "indicators.pkl"
    assert (
        json.loads(json.dumps(indicators.to_json()))["provenance"]["published_by"] == "the LIMPQ authors (MIT licence)"
    )


def test_steps_of_the_fixed_layers_may_be_missing(write, published, costs):
    for kind in published:
        del published[kind]["module.stem"], published[kind]["module.head"]
    assert set(imported(write(published), costs).weight_steps) == {"block.conv1", "block.conv2"}


@pytest.mark.parametrize("kind", ["weight", "act"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layers: layers.pop("module.block.conv1"), r"indicators\.pkl: layer 'block\.conv1' has no \w+ steps"),
        (
            lambda layers: layers.update({"module.layer9": {2: 0.5}}),
            r"indicators\.pkl: layer 'layer9' is not a layer of toynet; is --model right\?",
        ),
        (
            lambda layers: layers.update({"module.block.conv2": 0.5}),
            r"indicators\.pkl: layer block\.conv2: no step for each bit-width, found 0\.5",
        ),
        (
            lambda layers: layers["module.block.conv2"].update({3: "wide"}),
            r"indicators\.pkl: layer block\.conv2: 'wide' at 3 bits is not a step size",
        ),
        (
            lambda layers: layers["module.block.conv2"].update({3: math.nan}),
            r"indicators\.pkl: layer block\.conv2: nan at 3 bits is not a step size",
        ),
        (
            lambda layers: layers["module.block.conv2"].update({3: True}),
            r"indicators\.pkl: layer block\.conv2: True at 3 bits is not a step size",
        ),
        (
            lambda layers: layers["module.block.conv2"].update({3: 10**400}),
            r"indicators\.pkl: layer block\.conv2: 10+\.\.\. at 3 bits is not a step size",
        ),
        (
            lambda layers: layers["module.block.conv2"].update({"x": 0.5}),
            r"indicators\.pkl: layer block\.conv2: 0\.5 at 'x' bits is not a step size",
        ),
        (
            lambda layers: layers["module.block.conv2"].update({3: -0.5}),
            r"indicators\.pkl: \w+ steps of layer 'block\.conv2': the step at 3 bits must be a number above 0, found",
        ),
        (
            lambda layers: layers["module.block.conv2"].update({9: 0.5}),
            r"indicators\.pkl: \w+ steps of layer 'block\.conv2': a bit-width is a whole number from 2 to 8, found 9",
        ),
        (
            lambda layers: layers["module.block.conv2"].update({"3": 0.7}),
            r"indicators\.pkl: layer block\.conv2: .*3 bits",
        ),
        (
            lambda layers: layers.update({"block.conv2": {2: 0.9, 3: 0.8, 4: 0.7}}),
            r"indicators\.pkl: layer '?block\.conv2'?.*twice",
        ),
    ],
    ids=[
        "missing",
        "foreign",
        "no_steps",
        "text",
        "nan",
        "bool",
        "huge",
        "bits_text",
        "negative",
        "nine_bits",
        "bits_twice",
        "layer_twice",
    ],
)
def test_a_layer_that_does_not_fit_is_named(write, published, costs, kind, change, message):
    change(published[kind])
    with pytest.raises(ArtifactFormatError, match=message):
        imported(write(published), costs)


@pytest.mark.parametrize("kind", ["weight", "act"])
def test_a_pickle_without_steps_is_refused(write, published, costs, kind):
    message = rf"indicators\.pkl: no '{kind}' steps in it; is it an indicator file of the LIMPQ authors\?"
    for content in (
        {key: value for key, value in published.items() if key != kind},
        published | {kind: [1, 2]},
        published | {kind: None},
    ):
        with pytest.raises(ArtifactFormatError, match=message):
            imported(write(content), costs)


def test_a_message_does_not_grow_with_the_pickle(run_python, write, published):
    bomb = []
    for _ in range(60):
        # Twice as long to print with every turn, two bytes longer on the disk.
        bomb = [bomb, bomb]
    published["weight"]["module.block.conv1"] = bomb
    path = write(published)
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\n"
        "from limpq_hub.interop import import_limpq_indicators\n"
        "from limpq_hub.plan.costs import LayerCost\n"
        "from limpq_hub.errors import ArtifactFormatError\n"
        "names = ('stem', 'block.conv1', 'block.conv2', 'head')\n"
        "costs = {name: LayerCost(1, 1, 1, 1, signed=False) for name in names}\n"
        "try:\n"
        f"    import_limpq_indicators({str(path)!r}, model='toynet', input_size=32, num_classes=10, costs=costs)\n"
        "except ArtifactFormatError as error:\n"
        "    print(len(str(error)))\n"
    )
    result = run_python(code, timeout=120)
    assert result.returncode == 0, result.stderr[-300:]
    assert int(result.stdout) < 400


def test_the_reader_never_imports_torch(run_python, write, published):
    path = write(published)
    code = (
        "import sys\n"
        "from limpq_hub.interop import read_limpq_pickle\n"
        f"assert read_limpq_pickle({str(path)!r})\n"
        "print('torch' in sys.modules)"
    )
    result = run_python(code)
    assert re.fullmatch(r"False\n", result.stdout), result.stderr


def test_as_many_names_as_a_file_can_hold_are_read_in_a_moment(write, costs):
    steps = {f"layer{number}": {2: 0.1} for number in range(20_000)}
    many = dict.fromkeys(steps, costs["block.conv1"])
    path = write({"weight": steps, "act": steps})
    begun = time.monotonic()
    with pytest.raises(ArtifactFormatError, match="'layer0' is not a layer of toynet"):
        import_limpq_indicators(path, model="toynet", input_size=8, num_classes=10, costs=costs)
    twice = write({"weight": steps | {"module.layer7": {2: 0.1}}, "act": steps})
    with pytest.raises(ArtifactFormatError, match="layer 'layer7' stands twice among the 'weight' steps"):
        import_limpq_indicators(twice, model="toynet", input_size=8, num_classes=10, costs=many)
    assert time.monotonic() - begun < 5
