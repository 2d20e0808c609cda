"""Attacks of entries whose seals are right and whose content is not: giants, absurd figures, strange tensors, bombs."""

from __future__ import annotations

import gzip
import json
import resource
import struct
import subprocess
import sys
import time
import zlib

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save

from limpq_hub import load
from limpq_hub.errors import ArtifactFormatError, ArtifactIntegrityError
from limpq_hub.quant.convert import select_policy
from limpq_hub.zoo.anchors import apply_nearest_anchors_, save_anchors
from limpq_hub.zoo.checkpoint import load_checkpoint
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_folder import load_float_network, load_supernet, save_entry
from limpq_hub.zoo.float_file import FLOAT_FILE, GZIPPED_FLOAT_FILE, float_weights
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.half_precision import halved_statistics, halved_weight
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.tensors import tensors_from_bytes

GIANTS = [("eva_giant_patch14_560", 560, 1000), ("vit_gigantic_patch14_224", 224, 10), ("regnety_2560", 224, 10)]
ANCHOR = "policies/small"
HUGE = 10**400


def short(value: object) -> str:
    return str(value)[:9]


def entry_at(folder) -> Entry:
    return Entry(f"local-dir:{folder}", open_local_folder(folder, "entry"), "local")


READS = {
    "supernet": lambda entry: load_supernet(entry.folder, entry.indicators),
    "policy": lambda entry: load_checkpoint(entry.checkpoint("small")),
    "float": lambda entry: load_float_network(entry.folder),
    "random": lambda entry: load(entry.name, bitops="w3a3", pretrained=False),
}


# Giants


@pytest.mark.parametrize("what", READS)
@pytest.mark.parametrize(("architecture", "size", "classes"), GIANTS[:1])
def test_a_small_file_that_names_a_giant_is_refused_before_memory_is_taken(
    with_float, reseal, architecture, size, classes, what
):
    named = {"architecture": architecture, "input_size": size, "num_classes": classes}
    reseal(with_float / ANCHOR, **named)
    reseal(with_float, **named)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ArtifactFormatError, match=rf"(cannot be|too few for the .* numbers of) {architecture}"):
        READS[what](entry_at(with_float))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB
    assert time.process_time() - began < 20


@pytest.mark.slow
@pytest.mark.parametrize("what", READS)
@pytest.mark.parametrize(("architecture", "size", "classes"), GIANTS[1:])
def test_no_other_giant_takes_memory_either(with_float, reseal, architecture, size, classes, what):
    test_a_small_file_that_names_a_giant_is_refused_before_memory_is_taken(
        with_float, reseal, architecture, size, classes, what
    )


@pytest.mark.parametrize("what", READS)
def test_a_small_network_that_its_arguments_make_a_giant_is_refused_before_memory_is_taken(with_float, reseal, what):
    giant = {"architecture": "test_vit", "input_size": 160, "num_classes": 10}
    giant["model_args"] = {"depth": 64, "embed_dim": 8192}
    reseal(with_float / ANCHOR, **giant)
    reseal(with_float, **giant)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArtifactFormatError, match=r"(cannot be|too few for the .* numbers of) test_vit"):
        READS[what](entry_at(with_float))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_a_checkpoint_of_a_giant_in_the_entry_of_a_small_network_takes_no_memory(entry_copy, reseal):
    """In an entropy code an integer takes a quarter of a bit at least: the file alone does not tell."""
    path = entry_copy / ANCHOR / "model.safetensors"
    path.write_bytes(save({"zeros": torch.zeros(12 * 2**20, dtype=torch.uint8)}))
    reseal(path.parent, architecture="vit_large_patch16_224", input_size=224, num_classes=10)
    reseal(entry_copy)
    entry = entry_at(entry_copy)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArtifactIntegrityError, match="is a checkpoint of another network than local-dir:"):
        load(entry.name, policy=json.loads((path.parent / "policy.json").read_text()), weights="finetuned")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


@pytest.mark.parametrize("what", READS)
@pytest.mark.parametrize(("key", "value"), [("num_classes", 99_999)])
def test_more_classes_than_the_file_holds_are_refused_by_its_size(with_float, reseal, what, key, value):
    reseal(with_float / ANCHOR, **{key: value})
    reseal(with_float, **{key: value})
    with pytest.raises(ArtifactFormatError, match=r"with 99,999 classes|of test_resnet; fetch"):
        READS[what](entry_at(with_float))


@pytest.mark.parametrize("file", ["supernet.safetensors", f"{ANCHOR}/model.safetensors"])
def test_a_file_far_too_large_for_its_network_is_not_read(entry_copy, reseal, file):
    with (entry_copy / file).open("r+b") as opened:
        opened.truncate(100 * 2**20)
    reseal((entry_copy / file).parent)
    what = "policy" if "policies" in file else "supernet"
    with pytest.raises(
        ArtifactFormatError, match=r"of 104,857,600 bytes cannot be test_resnet with 10 classes at 32 p"
    ):
        READS[what](entry_at(entry_copy))


# Figures


@pytest.mark.parametrize("value", [-0.01, 100.01, 1e308, -1e308, HUGE], ids=short)
def test_percent_outside_0_to_100_is_refused(entry_copy, reseal, value):
    name = entry_copy / "metrics.json"
    whole = json.loads(name.read_text())
    for key in ("float", "joint"):
        figures = json.loads(json.dumps(whole))
        (figures[key] if key == "float" else figures[key][0])["top1"] = value
        name.write_text(json.dumps(figures))
        reseal(entry_copy)
        with pytest.raises(ArtifactFormatError, match=rf"metrics\.json: {key}: top1 must be (percent|a number)"):
            entry_at(entry_copy).summary()
    name.write_text(json.dumps(whole))
    (entry_copy / ANCHOR / "metrics.json").write_text(json.dumps({"top1": value}))
    reseal(entry_copy / ANCHOR)
    with pytest.raises(ArtifactFormatError, match=r"policies/small/metrics\.json: top1 must be (percent|a number)"):
        entry_at(entry_copy).summary()


@pytest.mark.parametrize("value", [-1, 2**63, HUGE], ids=short)
@pytest.mark.parametrize("key", ["bitops", "calibration_images"])
def test_a_count_that_cannot_be_is_refused(entry_copy, reseal, key, value):
    figures = json.loads((entry_copy / "metrics.json").read_text())
    figures["joint"][0][key] = value
    (entry_copy / "metrics.json").write_text(json.dumps(figures))
    reseal(entry_copy)
    with pytest.raises(ArtifactFormatError, match=rf"joint: {key} must be a whole number from 0 to 2\^63-1, found"):
        entry_at(entry_copy).summary()


@pytest.mark.parametrize("key", ["mean", "std"])
@pytest.mark.parametrize("value", [5e-324, 1e-300, 1e300, -1e300, HUGE], ids=short)
def test_a_preparation_that_makes_pictures_noise_or_infinite_is_refused(entry_copy, reseal, key, value):
    if key == "mean" and abs(value) < 1:
        value = 1001.0  # a mean near 0 is one
    reseal(entry_copy, **{key: [0.5, value, 0.5]})
    with pytest.raises(
        ArtifactFormatError, match=r"config\.json: (mean|std must be a number|.*is not how pictures can be prepared)"
    ):
        NetworkSpec.from_config(open_local_folder(entry_copy, "entry").config, "x")


# Tensors


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64, torch.uint16, torch.uint64])
def test_a_tensor_of_an_unusual_kind_is_refused_by_name(entry_copy, reseal, dtype):
    path = entry_copy / "supernet.safetensors"
    tensors = load_tensors(path.read_bytes())
    key = "fc.bias" if dtype.is_floating_point else next(key for key in tensors if key.endswith("num_batches_tracked"))
    tensors[key] = torch.zeros(tensors[key].shape).to(dtype)
    path.write_bytes(save(tensors))
    reseal(entry_copy)
    with pytest.raises(ArtifactFormatError, match=rf"tensor {key} is {dtype}"):
        READS["supernet"](entry_at(entry_copy))


@pytest.mark.parametrize(("key", "value"), [
    ("fc.bias", 1e300), ("bn1.running_var", 1e39), ("conv1.weight_quantizer.step", 1e-300), ("fc.bias", float("nan")),
])  # fmt: skip
def test_a_number_that_the_network_cannot_hold_is_refused(entry_copy, reseal, key, value):
    path = entry_copy / "supernet.safetensors"
    tensors = load_tensors(path.read_bytes())
    key = key if key in tensors else next(name for name in tensors if name.endswith(key.rpartition(".")[2]))
    tensors[key] = torch.full(tensors[key].shape, value, dtype=torch.float64)
    path.write_bytes(save(tensors))
    reseal(entry_copy)
    with pytest.raises(ArtifactFormatError, match=rf"tensor {key} has a value that is not finite, or a step or"):
        READS["supernet"](entry_at(entry_copy))


def safetensors(header: dict | str, body: bytes) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + body


def tensor_at(begin: int, end: int, shape: list[int] | None = None, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize("data", [
    safetensors({"a": tensor_at(0, 8), "b": tensor_at(4, 12)}, bytes(12)),
    safetensors({"a": tensor_at(0, 8), "b": tensor_at(0, 8)}, bytes(8)),
    safetensors({"a": tensor_at(0, 8), "b": tensor_at(12, 16)}, bytes(16)),
    safetensors({"a": tensor_at(8, 0)}, bytes(8)),
    safetensors({"a": tensor_at(-8, 0)}, bytes(8)),
    safetensors({"a": tensor_at(0, 8, [2**40, 2**40])}, bytes(8)),
    safetensors({"a": tensor_at(0, 8, [2**63])}, bytes(8)),
    safetensors({"a": tensor_at(0, 8, [-2])}, bytes(8)),
    safetensors({"a": tensor_at(0, 8, [3])}, bytes(8)),
    safetensors({"a": tensor_at(0, 8, dtype="F9")}, bytes(8)),
    safetensors({"a": tensor_at(0, 8)}, bytes(7)),
    safetensors({"a": tensor_at(0, 8)}, bytes(9)),
    safetensors("[" * 10**5, b""),
    struct.pack("<Q", 2**63) + b"{}",
    struct.pack("<Q", 2**64 - 1) + b"{}",
    b"",
], ids=lambda data: str(data[8:40]))  # fmt: skip
def test_a_header_that_does_not_tile_its_file_is_refused(data):
    with pytest.raises(ArtifactFormatError, match=r"^x is not a safetensors file: "):
        tensors_from_bytes(data, "x")


# Bombs


@pytest.mark.parametrize("unpacked_bytes", [2**27, 2**30])
def test_a_float_file_that_unpacks_to_a_thousand_times_its_size_is_not_unpacked(
    with_float, reseal, unpacked_bytes, tiny
):
    """The indicators of whoever made the entry may claim as many weights as they like."""
    (with_float / FLOAT_FILE).unlink()
    (with_float / GZIPPED_FLOAT_FILE).write_bytes(gzip.compress(bytes(unpacked_bytes), compresslevel=1))
    reseal(with_float)
    costs = dict(tiny.costs)
    first = next(iter(costs))
    costs[first] = type(costs[first])(**{**vars(costs[first]), "weights": 10**15})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        ArtifactFormatError, match=r"float\.safetensors\.gz holds more than the weights of the network;"
    ):
        float_weights(open_local_folder(with_float, "entry"), costs)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_a_weight_whose_code_grows_a_thousandfold_is_not_decoded(entry_copy, reseal):
    """The checksum of such a stream is right."""
    path = entry_copy / ANCHOR / "model.safetensors"
    tensors = load_tensors(path.read_bytes())
    key = next(name for name in tensors if name.endswith(".weight_coded"))
    tensors[key] = torch.frombuffer(bytearray(zlib.compress(bytes(2**27), 1)), dtype=torch.uint8)
    path.write_bytes(save(tensors))
    reseal(entry_copy / ANCHOR)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArtifactFormatError, match=rf"tensor {key}: its stream holds more than \d+ integers of \d bits"):
        READS["policy"](entry_at(entry_copy))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize("file", ["supernet.safetensors", FLOAT_FILE])
def test_high_bytes_that_grow_a_thousandfold_are_not_decoded(with_float, reseal, file):
    tensors = load_tensors((with_float / file).read_bytes())
    key = next(name for name in tensors if name.endswith(".high_coded"))
    tensors[key] = torch.frombuffer(bytearray(zlib.compress(bytes(2**27), 1)), dtype=torch.uint8)
    (with_float / file).write_bytes(save(tensors))
    reseal(with_float)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = rf"{file}: tensor {key}: its stream holds more than the high bytes of \d+ numbers$"
    with pytest.raises(ArtifactFormatError, match=message):
        READS["float" if file == FLOAT_FILE else "supernet"](entry_at(with_float))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


# Half precision


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e-3, 1.0, 1000.0, 60_000.0, 1e6, 1e30])
def test_a_weight_is_halved_only_where_that_is_exact_enough(scale):
    weight = scale * torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0)).clamp(-3, 3) / 3
    kept = halved_weight(weight)
    assert (kept.float() - weight).abs().max() <= 2**-10 * weight.abs().max()
    assert kept.dtype == (torch.float16 if 1e-3 <= scale <= 60_000 else torch.float32)


@pytest.mark.parametrize("weight", [torch.zeros(2, 2), torch.empty(0, 3)], ids=["zeros", "empty"])
def test_a_weight_of_nothing_is_halved(weight):
    assert torch.equal(halved_weight(weight).float(), weight)


@pytest.mark.parametrize(("mean", "variance", "halved"), [
    (0.3, 1.0, (True, True)), (0.3, 65_000.0, (True, True)), (0.3, 1e6, (True, False)), (70_000.0, 1e9, (False, False)),
    (1000.3, 1.0, (False, True)), (3.1, 1e-8, (False, True)), (-1000.3, 1e4, (True, True)),
])  # fmt: skip
def test_statistics_are_halved_only_where_what_comes_out_stays(mean, variance, halved):
    kept = halved_statistics(torch.full((3,), mean), torch.full((3,), variance))
    assert tuple(value.dtype == torch.float16 for value in kept) == halved
    assert all(value.isfinite().all() for value in kept)
    assert abs(float(kept[0][0]) - mean) <= 2**-8 * (variance + 1e-5) ** 0.5


def test_a_network_whose_statistics_exceed_half_precision_is_saved_and_computes_the_same(tiny, tmp_path, reseal):
    """Statistics as behind a convolution that was scaled by 1000: a variance of a million."""
    supernet = tiny.supernet
    state = {name: value.clone() for name, value in supernet.state_dict().items()}
    norm = next(name for name, module in supernet.named_modules() if isinstance(module, torch.nn.BatchNorm2d))
    try:
        with torch.no_grad():
            supernet.get_submodule(norm).running_var.fill_(1e6)
            supernet.get_submodule(norm).running_mean.fill_(3000.0)
        save_entry(tmp_path / "e", supernet, tiny.indicators, [{"id": str(n), "name": str(n)} for n in range(10)])
        save_anchors(tmp_path / "e", supernet, [tiny.joint], [1e6 * tiny.images])
        reseal(tmp_path / "e")
        folder = open_local_folder(tmp_path / "e", "entry")
        again = load_supernet(folder, tiny.indicators)
        assert torch.equal(again.get_submodule(norm).running_var, supernet.get_submodule(norm).running_var)
        network = select_policy(again, tiny.joint)
        apply_nearest_anchors_(network, tiny.joint, folder, {})
        assert network(tiny.images).isfinite().all()
    finally:
        supernet.load_state_dict(state)


# Many at once


@pytest.mark.slow
def test_eight_processes_load_one_entry_at_once(tiny):
    code = (
        "import sys, warnings, torch; warnings.simplefilter('ignore'); import limpq_hub; torch.set_num_threads(1); "
        "print(limpq_hub.load(sys.argv[1], bitops='w3a3')(torch.ones(1, 3, 32, 32)).sum().item())"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, tiny.name], stdout=subprocess.PIPE, text=True) for _ in range(8)
    ]
    answers = {process.communicate(timeout=300)[0] for process in started}
    assert [process.returncode for process in started] == [0] * 8
    assert len(answers) == 1


# The names of classes


@pytest.mark.parametrize("name", ["\x1b[2J\x1b[31mcat", "\x9b31m", "a\rb", "\u202etac", "\ud800", "\x00", "line\nline"])
def test_a_class_name_does_not_steer_the_terminal(entry_copy, reseal, capsys, tmp_path, name):
    from PIL import Image

    from limpq_hub.cli import main

    (entry_copy / "classes.json").write_text(json.dumps([{"id": f"n{n}", "name": name} for n in range(10)]))
    reseal(entry_copy)
    Image.new("RGB", (32, 32)).save(tmp_path / "x.png")
    assert main(["predict", str(tmp_path / "x.png"), "--model", f"local-dir:{entry_copy}", "--bitops", "w3a3"]) == 0
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert all(line.isprintable() for line in text.split("\n"))
