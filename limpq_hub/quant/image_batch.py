"""`image_batch`: what is given as images is a tensor of images alone, not what a loader yields beside labels."""

from __future__ import annotations

from torch import Tensor

from limpq_hub.errors import DataError, LimpqError


def image_batch(
    value: object,
    what: str,
    error: type[LimpqError] = DataError,
    *,
    dimensions: int | None = None,
    is_only_one: bool = False,
) -> Tensor:
    """Return a batch of images as it was given.

    Args:
        what: the argument that it was given as, such as "calibrate".
        error: the kind of error.
        dimensions: how many a batch has, 4 of pictures; None for any number, as networks of one's own take.
        is_only_one: whether one batch is taken there, and not many.

    Raises:
        LimpqError: of the kind `error`: it is no tensor, or of another number of dimensions.
    """
    if isinstance(value, Tensor) and value.ndim and dimensions in (None, value.ndim):
        return value
    batches, tensors = ("one batch", "a tensor") if is_only_one else ("batches", "tensors")
    raise error(f"{what}: give {batches} of images alone, {tensors} [batch, 3, height, width], no labels")
