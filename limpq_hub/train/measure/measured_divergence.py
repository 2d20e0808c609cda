"""A divergence as it is written down: at least 0, and a number."""

from __future__ import annotations

import math

from limpq_hub.errors import TrainingError


def measured_divergence(nats: float, of: str) -> float:
    """Return an averaged KL divergence; rounding leaves less than 0 of what changes nothing, which becomes 0.

    Args:
        of: what was measured, for the error.

    Raises:
        TrainingError: the predictions are not numbers.
    """
    if not math.isfinite(nats):
        raise TrainingError(
            f"the predictions of {of} are not numbers: its divergence from the float network would be {nats}; look for "
            "a division by what can be 0 behind its layers, or leave these in float (exclude)"
        )
    return max(0.0, nats)
