"""latency=(table, limit): the time of one image, by a table of the times of single layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from limpq_hub.plan.constraints.layer_table import LayerTableKind
from limpq_hub.plan.layer_table_file import EntryWords


class Latency(LayerTableKind):
    """The times of all layers of the table, added up, in the unit of the table."""

    name = "latency"
    help = "CSV of layer, weight bits, activation bits, time; and what the times may add up to"
    entry = EntryWords(table=name, column="time", with_article="a time", plural="times")
    # `limpq measure-latency` writes milliseconds.
    units: ClassVar[Mapping[str, int]] = {"": 1, "ms": 1}
