"""How far the predictions of a network are from those of its reference: the Kullback-Leibler divergence."""

from __future__ import annotations

from torch import Tensor, nn


def kl_divergence(logits: Tensor, reference: Tensor, *, of_each_image: bool = False) -> Tensor:
    """Return the KL divergence of the predictions from those of a reference in nats, differentiable.

    Args:
        logits: [batch, classes].
        reference: log-probabilities, [batch, classes].
        of_each_image: whether to return that of each image, [batch], instead of their mean, [].

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, for its use as a loss.
    """
    # The mean is summed in one go: the sums of the images would be added in another order, and round otherwise.
    reduction = "none" if of_each_image else "batchmean"
    divergence = nn.functional.kl_div(logits.log_softmax(-1), reference, reduction=reduction, log_target=True)
    return divergence.sum(-1) if of_each_image else divergence
