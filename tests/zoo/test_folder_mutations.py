"""Every truncation and thousands of flipped bits of each kind of file of an entry: refused, by the name of the file."""

import random
import shutil

import pytest

from limpq_hub.errors import ArtifactError
from limpq_hub.zoo.anchors import save_anchors
from limpq_hub.zoo.entry_folder import save_float_network, seal_entry
from limpq_hub.zoo.folder import open_folder
from limpq_hub.zoo.network import NetworkSpec

FLIPS, MANY_FLIPS = 250, 5_000
FILES = [
    *("config.json", "indicators.json", "metrics.json", "classes.json", "supernet.safetensors", "float.safetensors"),
    *("anchors.json", "anchors.safetensors"),
    *("policies/small/config.json", "policies/small/policy.json", "policies/small/metrics.json"),
    "policies/small/model.safetensors",
]


@pytest.fixture(scope="module")
def entry_of_every_kind(tiny, tmp_path_factory):
    """The folder of an entry that holds a file of every kind; to be read only."""
    folder = shutil.copytree(tiny.folder, tmp_path_factory.mktemp("every-kind") / tiny.folder.name)
    spec = NetworkSpec.of(tiny.supernet)
    save_float_network(folder, spec.build())
    save_anchors(folder, tiny.supernet, [tiny.joint], [tiny.images])
    seal_entry(folder, spec)
    return folder


@pytest.fixture
def refusal(entry_of_every_kind, tmp_path):
    """A function that reads a file of the entry, replaced by other bytes, and returns what was said, "" if nothing."""
    content = {path.relative_to(entry_of_every_kind).as_posix(): path for path in entry_of_every_kind.rglob("*.*")}
    changed = tmp_path / "changed"
    whole = open_folder("entry", lambda file, _: content[file], "entry")

    def attempt(file: str, data: bytes) -> str:
        changed.write_bytes(data)
        kept, content[file] = content[file], changed
        try:
            if file == "config.json":
                open_folder("entry", lambda file, _: content[file], "entry")
            else:
                whole.read(file)
        except ArtifactError as error:
            return str(error)
        finally:
            content[file] = kept
        return ""

    attempt.content = content
    return attempt


@pytest.mark.parametrize("file", FILES)
def test_a_file_truncated_at_any_percent_is_refused_by_name(refusal, file):
    data = refusal.content[file].read_bytes()
    assert refusal(file, data) == ""
    for percent in range(100):
        assert refusal(file, data[: len(data) * percent // 100]).startswith(f"entry/{file}"), percent


@pytest.mark.parametrize("flips", [FLIPS, pytest.param(MANY_FLIPS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("file", FILES)
def test_a_file_with_any_flipped_bit_is_refused_by_name(refusal, file, flips):
    data, rng = refusal.content[file].read_bytes(), random.Random(file)
    changed = bytearray(data)
    for _ in range(flips):
        position, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
        changed[position] ^= bit
        assert refusal(file, bytes(changed)).startswith(f"entry/{file}"), (position, bit)
        changed[position] ^= bit
    assert changed == data
