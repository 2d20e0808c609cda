"""Whether a figure that an artifact states can be one: percent, and counts. No torch."""

from __future__ import annotations

from limpq_hub.errors import ArtifactFormatError, quoted

_MOST = 2**63 - 1


def check_percent(value: float, where: str) -> None:
    """Raise `ArtifactFormatError` unless `value` lies in 0..100."""
    if not 0 <= value <= 100:
        raise ArtifactFormatError(f"{where} must be percent, from 0 to 100, found {quoted(value)}")


def check_count(value: int, where: str) -> None:
    """Raise `ArtifactFormatError` unless `value` lies in 0..2^63-1."""
    if not 0 <= value <= _MOST:
        raise ArtifactFormatError(f"{where} must be a whole number from 0 to 2^63-1, found {quoted(value)}")
