"""The measured top-1 of policies, as the tables and the JSON of a command show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limpq_hub.plan.policy import Policy
    from limpq_hub.zoo.entry import Entry
    from limpq_hub.zoo.measurement import Measurement


class Top1s:
    """The top-1 of policies of one entry, for a table, and its caption: on which images these were measured."""

    def __init__(self, entry: Entry | None) -> None:
        self._entry = entry
        self._on_images: dict[str, None] = {}

    def cell(self, policy: Policy, top1: float, weights: Any) -> str:
        """Return a measured top-1 with its standard error; `weights` as `measured_top1` names them."""
        from limpq_hub.zoo.measurement import top1_text

        measured = self._measurement(policy, weights)
        if measured and measured.images_text:
            self._on_images[measured.images_text] = None
        return top1_text(top1, measured)

    def record(self, policy: Policy, top1: float | None, weights: Any) -> dict[str, float | int | None]:
        """Return a top-1 as JSON holds it, with how sure it is and of how many images."""
        from limpq_hub.zoo.measurement import top1_record

        return top1_record(top1, None if top1 is None else self._measurement(policy, weights))

    def caption(self) -> str | None:
        """Return on which images the cells so far were measured; None where that is not known."""
        return f"top-1 on {' or '.join(self._on_images)}\n+/- one standard error" if self._on_images else None

    def _measurement(self, policy: Policy, weights: Any) -> Measurement | None:
        from limpq_hub.zoo.measurement import top1_measurement

        return top1_measurement(self._entry, policy.digest(), weights) if self._entry else None
