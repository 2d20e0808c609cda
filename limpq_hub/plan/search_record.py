"""What a search of an entry finds its policies by, as JSON: what is measured along a frontier says of which it is."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from limpq_hub.plan.indicators import Indicators


def search_record(indicators: Indicators) -> dict[str, Any]:
    """Return what a search adds up unless it is told otherwise, and how far apart the bits of a layer may be.

    Where it adds up measured pairs, with a sha256 of these. Indicators of one training with the same record find the
    same policies.
    """
    record = {"objective": indicators.objective, "apart": indicators.apart}
    if indicators.objective != "measured":
        return record
    pairs = {
        name: [[bits.weight, bits.activation, divergence] for bits, divergence in sorted(measured.items())]
        for name, measured in indicators.divergences.items()
    }
    return record | {"pairs_sha256": hashlib.sha256(json.dumps(pairs, sort_keys=True).encode()).hexdigest()}
