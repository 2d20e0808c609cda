"""Two policies measured on the same images: the difference, its standard error, and which one is ahead."""

from __future__ import annotations

import math
from typing import Literal, TypedDict

from torch import Tensor

from limpq_hub.train.measure.evaluate import OfImages

Verdict = Literal["ahead", "level", "behind"]
# Differences of fewer standard errors are taken for chance.
_STANDARD_ERRORS = 2.0


class Paired(TypedDict):
    """How a policy differs from another one, each image compared with itself.

    Attributes:
        kl: difference of the divergence in nats; below 0 it is nearer to the float network than the other one is.
        right: difference of top-1 in percentage points, or of agreement where there are no labels.
        kl_standard_error, right_standard_error: of these differences.
        verdict: by the divergence, which tells policies apart with less noise: nearer by more than two standard errors
            is "ahead", farther by more than two "behind".
    """

    kl: float
    kl_standard_error: float
    right: float
    right_standard_error: float
    verdict: Verdict


def paired(of_policy: OfImages, of_other: OfImages) -> Paired:
    """Return how a policy differs from another one on the same images.

    What two policies lose on one image is related: the standard error of their difference is that of the differences of
    single images, much smaller than that of two averages taken as unrelated.
    """
    kl, kl_error = _mean(of_policy.kl - of_other.kl)
    right, right_error = _mean(100 * (of_policy.right.double() - of_other.right.double()))
    return {
        "kl": round(kl, 6),
        "kl_standard_error": round(kl_error, 6),
        "right": round(right, 4),
        "right_standard_error": round(right_error, 4),
        "verdict": verdict_of(kl, kl_error),
    }


def verdict_of(kl: float, standard_error: float) -> Verdict:
    """Return which of two policies is nearer to the float network, by a difference of KL and its standard error."""
    if abs(kl) <= _STANDARD_ERRORS * standard_error:
        return "level"
    return "ahead" if kl < 0 else "behind"


def _mean(differences: Tensor) -> tuple[float, float]:
    """Return the mean of differences, [images], and its standard error."""
    spread = float(differences.std(correction=min(1, len(differences) - 1)))
    return float(differences.mean()), spread / math.sqrt(len(differences))
