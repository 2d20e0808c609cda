"""Tables of layers as numpy files: layers x 8 weight bits x 8 activation bits, in the order of execution."""

import random
import re
from contextlib import suppress

import numpy as np
import pytest

from limpq_hub.errors import BudgetError, LimpqError
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.constraints.latency import Latency
from limpq_hub.plan.layer_array_file import read_layer_array
from limpq_hub.plan.optimum import search


@pytest.fixture
def indicators(network):
    return network({name: {2: 0.4, 4: 0.2} for name in ("a", "b")}, {name: {4: 0.1} for name in ("a", "b")})


def test_a_numpy_table_is_the_dictionary_of_the_same_numbers(indicators, tmp_path):
    times = np.random.default_rng(0).integers(1, 9, (2, 8, 8))
    np.save(tmp_path / "table.npy", times)
    named = {
        name: {(2, 4): int(times[layer, 1, 3]), (4, 4): int(times[layer, 3, 3])} for layer, name in enumerate("ab")
    }
    for limit in (9, 12, "14ms"):
        of_file, of_names = (
            search(indicators, Budget(latency=(table, limit))) for table in (tmp_path / "table.npy", named)
        )
        assert of_file.policy == of_names.policy


@pytest.mark.parametrize(
    ("array", "because"),
    [
        (np.ones((2, 8)), r"holds <f8 \[2, 8\]; give an array \[layers, 8, 8\], saved by numpy\.save"),
        (np.full((2, 8, 8), "a"), r"holds <U1 \[2, 8, 8\]"),
        (np.full((2, 8, 8), np.nan), "holds a number that is neither 0 nor from 1e-100 to 1e"),
        (np.full((2, 8, 8), np.inf, np.float32), "holds a number that is neither 0 nor from 1e-100 to 1e"),
        (np.full((2, 8, 8), -1), "holds a number that is neither 0 nor from 1e-100 to 1e"),
        (np.full((2, 8, 8), None), r"holds \|O \[2, 8, 8\]"),
        (np.ones((2, 8, 8), complex), r"holds <c16 \[2, 8, 8\]"),
        (np.zeros((2, 8, 8), [("a", "f8")]), r"cannot be read \(its header does not describe one array of plain num"),
    ],
)
def test_an_array_that_is_no_table_is_refused(indicators, tmp_path, array, because):
    np.save(tmp_path / "table.npy", array)
    with pytest.raises(BudgetError, match=rf"^latency table '.*table\.npy' {because}"):
        search(indicators, Budget(latency=(tmp_path / "table.npy", 5)))


def test_a_file_that_is_no_array_and_one_of_another_network_are_refused(indicators, tmp_path):
    path = tmp_path / "table.npy"
    path.write_bytes(b"layer,time")
    with pytest.raises(BudgetError, match=r"^latency table '.*' cannot be read \(.*\); give an array"):
        search(indicators, Budget(latency=(path, 5)))
    np.save(path, np.ones((3, 8, 8)))
    message = "has 3 layers, the network 2, of which 2 are searched; give a table of one of these numbers"
    with pytest.raises(BudgetError, match=re.escape(message)):
        search(indicators, Budget(latency=(path, 5)))


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", "<f2", "|u1", "<i8", ">u2"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_an_array_of_any_numbers_is_read_as_numpy_reads_it(tmp_path, dtype, order, version):
    times = np.asarray(np.random.default_rng(0).integers(1, 99, (3, 8, 8)), dtype, order=order)
    with (tmp_path / "table.npy").open("wb") as file:
        np.lib.format.write_array(file, times, version)
    of_file = read_layer_array(tmp_path / "table.npy", Latency.entry)
    assert np.array_equal(np.array(of_file.entries), np.load(tmp_path / "table.npy"))


def written(header, numbers=b""):
    """Return the content of a file of numpy with a header of one's own."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + numbers


WHOLE = written("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 8, 8), }", np.ones(128).tobytes())


@pytest.mark.parametrize(
    "content",
    [
        written("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000, 8, 8), }"),
        written("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999, 8, 8), }"),
        written("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 8, 8), }"),
        written("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 8, 8"),
        written("  {'descr': '<f8'\n    \n  'x"),
        written("{'descr': 'xx', 'fortran_order': False, 'shape': (1, 8, 8), }"),
        written("(" * 5000),
        written(""),
        b"PK\x03\x04" + b"a" * 24,
        b"",
        b"\x93NUMPY",
        WHOLE[:-1],
        WHOLE + b"0",
    ],
    ids=range(13),
)
def test_a_damaged_file_is_refused_in_a_line(indicators, tmp_path, content):
    (tmp_path / "table.npy").write_bytes(content)
    with pytest.raises(BudgetError, match=r"^latency table '.*table\.npy' .*give an array \[layers, 8, 8\], saved by"):
        search(indicators, Budget(latency=(tmp_path / "table.npy", 5)))


def test_a_file_that_was_changed_anywhere_is_read_or_refused(indicators, tmp_path):
    rng = random.Random(0)
    for _ in range(1500):
        content = bytearray(WHOLE[: rng.randint(0, len(WHOLE))] if rng.random() < 0.2 else WHOLE)
        for _ in range(rng.randint(1, 3) if content else 0):
            content[rng.randrange(min(len(content), 90))] = rng.randrange(256)
        (tmp_path / "table.npy").write_bytes(content)
        with suppress(LimpqError):
            search(indicators, Budget(latency=(tmp_path / "table.npy", 5)))
