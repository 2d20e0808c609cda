"""Tables of layers as numpy files: layers x 8 weight bits x 8 activation bits, in the order of execution."""

import re

import numpy as np
import pytest

from limpq_hub.errors import BudgetError
from limpq_hub.plan.budget import Budget
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
        (np.ones((2, 8)), r"holds float64 \[2, 8\]; give an array \[layers, 8, 8\], saved by numpy\.save"),
        (np.full((2, 8, 8), "a"), r"holds <U1 \[2, 8, 8\]"),
        (np.full((2, 8, 8), np.nan), "holds a number that is neither 0 nor from 1e-100 to 1e"),
        (np.full((2, 8, 8), -1), "holds a number that is neither 0 nor from 1e-100 to 1e"),
        (np.full((2, 8, 8), None), "cannot be read .*allow_pickle=False"),
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
