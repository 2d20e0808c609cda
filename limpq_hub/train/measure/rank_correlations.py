"""How well one figure of policies ranks them as another one does."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.stats import spearmanr

from limpq_hub.train.measure.measurement_cache import Figures


def rank_correlation(points: Sequence[Figures], key: str) -> float:
    """Return Spearman's rank correlation of the objective with a figure; 0 where one of them does not vary."""
    objectives, figures = ([point[name] for point in points] for name in ("objective", key))
    if len(set(objectives)) < 2 or len(set(figures)) < 2:
        return 0.0
    return round(float(spearmanr(objectives, figures).statistic), 4)
