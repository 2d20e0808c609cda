"""`CachedWeight`: a quantized weight that need not be computed again in eval mode."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class CachedWeight:
    """A quantized weight, and the tensors and versions that show whether it is still up to date.

    Attributes:
        sources: weight and step that it was computed from, detached. They are compared by address: as long as they are
            held here, no other tensor can be given their memory.
        versions: torch's count of in-place writes to each of them at that time.
        bits: the bit-width, 2..8, or None for float.
        quantized: the weight on its grid, in the shape of the weight.
    """

    sources: tuple[Tensor, Tensor]
    versions: tuple[int, int]
    bits: int | None
    quantized: Tensor

    @classmethod
    def of(cls, weight: Tensor, step: Tensor, bits: int | None, quantized: Tensor) -> CachedWeight:
        """Return the cache entry of `quantized`, computed from `weight` and `step` just now.

        Args:
            weight, quantized: of the same shape.
            step: every step of the quantizer, at all bit-widths: [candidates] or [candidates, channels].
        """
        return cls((weight.detach(), step.detach()), (weight._version, step._version), bits, quantized)

    def is_current(self, weight: Tensor, step: Tensor, bits: int | None) -> bool:
        """Return whether weight, step and bits are still those that the quantized weight was computed from."""
        addresses = tuple(source.data_ptr() for source in self.sources)
        return (
            self.bits == bits
            and addresses == (weight.data_ptr(), step.data_ptr())
            and self.versions == (weight._version, step._version)
        )
