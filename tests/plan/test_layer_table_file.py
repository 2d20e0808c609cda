"""Tables of layers as CSV files: what is read, and which line of a malformed file is named."""

from __future__ import annotations

import re

import pytest

from limpq_hub.errors import BudgetError, quoted
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.constraints.latency import Latency
from limpq_hub.plan.layer_table_file import read_layer_table
from limpq_hub.plan.optimum import search

HEADING = "layer,weight_bits,activation_bits,time"
NOT_A_LINE = "is not a layer, two whole numbers of bits and a time; write for example layer1.0.conv1,4,4,0.21"
TABLE = {"conv1": {(2, 4): 0.25, (4, 4): 0.5}, "layer1.0.conv1": {(4, 8): 3.0}}
LINES = ("conv1,2,4,0.25", "conv1,4,4,0.5", "layer1.0.conv1,4,8,3")


@pytest.fixture
def csv_file(tmp_path):
    """A function that writes a heading and lines, or bytes as they are, to a file."""

    def write(*lines: str, heading: str = HEADING, data: bytes | None = None):
        path = tmp_path / "latency.csv"
        path.write_bytes("\n".join([heading, *lines, ""]).encode() if data is None else data)
        return path

    return write


def read_times(path):
    return read_layer_table(path, Latency.entry)


@pytest.mark.parametrize("column", ["layer", "weight_bits", "time"])
def test_a_column_that_is_there_twice_is_refused(csv_file, column):
    with pytest.raises(BudgetError, match=rf"latency\.csv' has several columns {column}; keep one$"):
        read_times(csv_file("conv1,2,4,0.25,1", heading=f"{HEADING},{column}"))


def test_each_line_is_the_time_of_a_layer_at_its_bits(csv_file):
    table = read_times(csv_file(*LINES))
    assert table == TABLE
    assert all(type(time) is float for times in table.values() for time in times.values())


def test_the_path_may_be_text(csv_file):
    assert read_times(str(csv_file(*LINES))) == TABLE


def test_the_order_of_the_columns_is_free_and_further_ones_are_passed_over(csv_file):
    path = csv_file(
        "0.25,cpu,4,2,conv1",
        "0.5,cpu,4,4,conv1",
        "3,cpu,8,4,layer1.0.conv1",
        heading="time,device,activation_bits,weight_bits,layer",
    )
    assert read_times(path) == TABLE


@pytest.mark.parametrize("end", ["\r\n", "\r"], ids=["CR LF", "CR"])
def test_lines_may_end_as_other_systems_write_them(csv_file, end):
    assert read_times(csv_file(data=end.join([HEADING, *LINES, ""]).encode())) == TABLE


def test_empty_lines_and_a_missing_last_line_end_change_nothing(csv_file):
    assert read_times(csv_file(data="\n\n".join([HEADING, *LINES]).encode())) == TABLE


def test_a_quoted_layer_may_hold_a_comma_and_other_scripts(csv_file):
    path = csv_file('"block,1",4,4,1', "Ebene_größer,4,4,2")
    assert read_times(path) == {"block,1": {(4, 4): 1.0}, "Ebene_größer": {(4, 4): 2.0}}


def test_the_layers_of_a_table_may_come_in_any_order(csv_file):
    assert read_times(csv_file(*reversed(LINES))) == TABLE


@pytest.mark.parametrize(
    "data",
    [
        "\n".join([HEADING, *LINES]).encode("utf-8-sig"),  # as spreadsheets write it
        "\n".join([HEADING.replace(",", ", "), *LINES]).encode(),
    ],
    ids=["a byte order mark", "spaces in the first line"],
)
def test_a_byte_order_mark_and_spaces_around_the_names_of_the_columns_change_nothing(csv_file, data):
    assert read_times(csv_file(data=data)) == TABLE


@pytest.mark.parametrize(
    ("heading", "missing"),
    [
        ("layer,weight_bits,activation_bits,latency", "time"),
        ("name,weight_bits,activation_bits,time", "layer"),
        ("layer,bits,time", "weight_bits, activation_bits"),
        (HEADING.replace(",", ";"), "layer, weight_bits, activation_bits, time"),
        (HEADING.upper(), "layer, weight_bits, activation_bits, time"),
        ("conv1,4,4,0.5", "layer, weight_bits, activation_bits, time"),
        ("", "layer, weight_bits, activation_bits, time"),
    ],
)
def test_the_columns_that_are_missing_are_named(csv_file, heading, missing):
    path = csv_file("conv1,4,4,0.5", heading=heading)
    message = f"latency table {quoted(str(path))} has no column {missing}; its first line must be {HEADING}"
    with pytest.raises(BudgetError, match=f"^{re.escape(message)}$"):
        read_times(path)


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"], ids=["nothing", "a byte order mark"])
def test_an_empty_file_lacks_all_columns(csv_file, data):
    with pytest.raises(BudgetError, match=r" has no column layer, weight_bits, activation_bits, time; its first line"):
        read_times(csv_file(data=data))


@pytest.mark.parametrize(
    "line",
    [
        "conv1,4,4,fast",
        "conv1,4,4,",
        "conv1,4,4",
        "conv1",
        "conv1,four,4,0.5",
        "conv1,4,4.0,0.5",
        "conv1,4,,0.5",
        "conv1;4;4;0.5",
        "conv1,4,4,0.5 ms",
        f"conv1,{'9' * 5000},4,0.5",  # more digits than Python reads
        "conv1,4,4,0,21",
        "conv1,\uff14,4,0.5",
        "conv1,4,4,\uff15",
        "conv1,4,4,1_0",
        "conv1,4_0,4,1",
        "conv1,+4,4,1",
        "conv1,4,4,infinity",
    ],
    ids=lambda line: line[:20],
)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_malformed_line_is_named_by_its_number_and_shown(csv_file, line, place):
    path = csv_file(*LINES[:place], line, *LINES[place:])
    message = f"latency table {quoted(str(path))}, line {place + 2}: {quoted(line)} {NOT_A_LINE}"
    with pytest.raises(BudgetError, match=f"^{re.escape(message)}$"):
        read_times(path)


def test_empty_lines_count_when_a_line_is_named(csv_file):
    with pytest.raises(BudgetError, match=r", line 5: 'conv1,4,x,1' is not a layer"):
        read_times(csv_file("", "conv1,4,4,1", "", "conv1,4,x,1"))


def test_two_times_of_one_layer_at_the_same_bits_are_refused(csv_file):
    path = csv_file(*LINES, "conv1,04, 4,0.5")
    message = f"latency table {quoted(str(path))}, line 5: a second time of layer 'conv1' at these bits; remove one"
    with pytest.raises(BudgetError, match=f"^{re.escape(message)}$"):
        read_times(path)


def test_a_table_without_any_time_is_refused(csv_file):
    path = csv_file("", "")
    message = f"latency table {quoted(str(path))} holds no times; add lines such as layer1.0.conv1,4,4,0.21"
    with pytest.raises(BudgetError, match=f"^{re.escape(message)}$"):
        read_times(path)


@pytest.mark.parametrize(
    ("data", "because"),
    [
        (f"{HEADING}\ncaf\xe9,4,4,1\n".encode("latin-1"), "'utf-8' codec can't decode byte 0xe9"),
        (f"{HEADING}\nconv1,4,4,1\n".encode("utf-16"), "'utf-8' codec can't decode byte 0xff"),
        (f"{HEADING}\n{'c' * 200_000},4,4,1\n".encode(), "field larger than field limit"),
    ],
    ids=["Latin-1", "UTF-16", "a cell of 200 kB"],
)
def test_a_file_that_is_no_text_of_lines_is_refused_by_name(csv_file, data, because):
    path = csv_file(data=data)
    with pytest.raises(BudgetError) as caught:
        read_times(path)
    message = str(caught.value)
    assert message.startswith(f"latency table {quoted(str(path))} cannot be read ({because}")
    assert message.endswith(f"); give a CSV file with the columns {HEADING}")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("inside", "because"), [("missing.csv", "No such file or directory"), ("", "Is a directory"), ("a\0b", "null byte")]
)
def test_a_file_that_is_not_there_is_refused_by_name(tmp_path, inside, because):
    with pytest.raises(
        BudgetError, match=rf"^latency table '.* cannot be read \(.*{because}.*\); give a CSV file with"
    ):
        read_times(tmp_path / inside)


@pytest.mark.parametrize("form", [str, lambda path: path], ids=["text", "path"])
def test_a_budget_takes_the_file_in_place_of_the_table(csv_file, form):
    path = csv_file(*LINES)
    assert Budget(latency=(form(path), "3.25")) == Budget(latency=(TABLE, 3.25))


@pytest.mark.parametrize("time", ["nan", "inf", "-0.5", "1e999"])
def test_a_time_that_cannot_be_is_refused_with_its_layer_and_bits(csv_file, time):
    path = csv_file("conv1,4,4,1", f"layer1.0.conv1,2,3,{time}")
    message = r"layer 'layer1\.0\.conv1' at bits \(2, 3\) is (nan|inf|-0\.5): a time is a finite number of at least 0$"
    with pytest.raises(BudgetError, match=message):
        Budget(latency=(path, 3))


def test_a_search_within_a_file_is_the_search_within_its_table(csv_file, network):
    steps = {2: 0.4, 4: 0.1}
    indicators = network({"a": steps, "b": steps}, macs={"a": 10, "b": 1000})
    pairs = [(weight, activation) for weight in steps for activation in steps]
    table = {"a": {(w, a): w * a / 16 for w, a in pairs}, "b": {(w, a): w * a for w, a in pairs}}
    path = csv_file(*(f"{layer},{w},{a},{time}" for layer, times in table.items() for (w, a), time in times.items()))
    of_file, of_table = (search(indicators, Budget(latency=(source, 9))) for source in (path, table))
    assert of_file.policy == of_table.policy
    # 16/16 + 2*4 = 9: all but one kind of bits of "b" at most.
    bits = {name: {of_layer.weight, of_layer.activation} for name, of_layer in of_file.policy.layers.items()}
    assert bits == {"a": {4}, "b": {2, 4}}
