"""energy=(table, limit): the energy of one image, by a table of the energies of single layers."""

from __future__ import annotations

from limpq_hub.plan.constraints.layer_table import LayerTableKind
from limpq_hub.plan.layer_table_file import EntryWords


class Energy(LayerTableKind):
    """The energies of all layers of the table, added up, in the unit of the table."""

    name = "energy"
    help = "CSV of layer, weight bits, activation bits, energy; and what the energies may add up to"
    entry = EntryWords(table=name, column="energy", with_article="an energy", plural="energies")
