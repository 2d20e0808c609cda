"""The KL divergence against scipy's, of each image and their mean, and its gradient against the formula."""

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from limpq_hub.quant.kl_divergence import kl_divergence


@pytest.fixture
def logits() -> tuple[torch.Tensor, torch.Tensor]:
    """Of a network and of its reference, [6, 5] each."""
    return tuple(torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3)


def test_it_is_that_of_scipy_of_each_image_and_on_average(logits):
    ours, reference = logits
    expected = rel_entr(softmax(reference.numpy(), 1), softmax(ours.numpy(), 1)).sum(1)
    of_each = kl_divergence(ours, reference.log_softmax(-1), of_each_image=True)
    np.testing.assert_allclose(of_each, expected, rtol=1e-12)
    assert float(kl_divergence(ours, reference.log_softmax(-1))) == pytest.approx(expected.mean(), rel=1e-12)


def test_its_gradient_is_the_difference_of_the_probabilities(logits):
    ours, reference = logits
    ours.requires_grad_()
    kl_divergence(ours, reference.log_softmax(-1)).backward()
    torch.testing.assert_close(ours.grad, (ours.softmax(-1) - reference.softmax(-1)).detach() / len(ours))
