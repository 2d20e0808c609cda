"""Top-1, top-5 and KL against counts and formulas by hand; pictures that cannot be decoded count for nothing."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from scipy.special import log_softmax, rel_entr
from scipy.stats import sem
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from limpq_hub.errors import DataError, TrainingError
from limpq_hub.train.data.picture_loader import PictureLoader
from limpq_hub.train.data.sources import UNLABELLED
from limpq_hub.train.data.unreadable import UNREADABLE, Unreadable
from limpq_hub.train.measure.evaluate import evaluate, log_probabilities


class Rows(Dataset):
    """Images whose first row are the logits that `FirstRow` gives for them."""

    def __init__(self, logits: list[list[float]], labels: list[int], *, size: int = 5000) -> None:
        self.logits, self.labels = torch.tensor(logits), labels
        self.unreadable = Unreadable(size, lambda index: f"picture {index}")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.labels[index] == UNREADABLE:
            self.unreadable.add(index, OSError("broken"))
        return self.logits[index].expand(1, 1, -1), self.labels[index]


class FirstRow(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.modes: set[tuple[bool, bool]] = set()

    def forward(self, images: Tensor) -> Tensor:
        self.modes.add((self.training, torch.is_grad_enabled()))
        return images[:, 0, 0]


def rank(label: int, place: int, classes: int = 8) -> list[float]:
    """Logits in which `label` has the place `place`, from 0."""
    order = [other for other in range(classes) if other != label]
    order.insert(place, label)
    logits = [0.0] * classes
    for position, index in enumerate(order):
        logits[index] = float(-position)
    return logits


def loader_of(rows: Rows, batch_size: int) -> PictureLoader:
    return PictureLoader(DataLoader(rows, batch_size), rows.unreadable)


def measured(rows: Rows, batch_size: int = 3, num_classes: int = 8) -> dict[str, float | int]:
    return evaluate(Accelerator(cpu=True), FirstRow(num_classes), loader_of(rows, batch_size))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_figures_are_the_hits_by_hand_whatever_the_batch_size(batch_size):
    places = [0, 0, 1, 4, 5, 7, 0]
    labels = [3, 7, 0, 2, 2, 6, 0]
    rows = Rows([rank(label, place) for label, place in zip(labels, places, strict=True)], labels)
    assert measured(rows, batch_size) == {"top1": 42.8571, "top5": 71.4286, "images": 7}


def test_an_unreadable_picture_is_left_out_of_hits_and_counts_and_reported(capsys):
    labels = [3, UNREADABLE, 2, UNREADABLE, 1]
    rows = Rows([rank(3, 0), rank(0, 0), rank(2, 3), rank(7, 0), rank(1, 6)], labels)
    assert measured(rows) == {"top1": 33.3333, "top5": 66.6667, "images": 3, "unreadable": 2}
    assert capsys.readouterr().err.splitlines() == [
        "cannot be decoded, left out: picture 1 (broken)",
        "cannot be decoded, left out: picture 3 (broken)",
    ]


def test_too_many_unreadable_pictures_are_an_error():
    rows = Rows([rank(3, 0), rank(0, 0)], [3, UNREADABLE], size=2)
    message = r"1 of 2 images cannot be decoded, more than 0.1 %: picture 1; replace or remove them"
    with pytest.raises(DataError, match=message):
        measured(rows)


@pytest.mark.parametrize(("size", "stops"), [(3000, True), (4000, False)])
def test_too_many_unreadable_pictures_of_all_processes_together_are_an_error(monkeypatch, size, stops):
    # Four processes that have met one each: of 3,000 pictures one is tolerated, and so are three.
    rows, accelerator = Rows([rank(3, 0), rank(0, 0)], [3, UNREADABLE], size=size), Accelerator(cpu=True)
    monkeypatch.setattr(accelerator, "gather_for_metrics", lambda found: [torch.cat([part] * 4) for part in found])
    if not stops:
        assert evaluate(accelerator, FirstRow(8), loader_of(rows, 2))["unreadable"] == 4
        return
    message = "^4 of 3000 images cannot be decoded, more than 0.1 %: picture 1 and 3 more; replace or remove them$"
    with pytest.raises(DataError, match=message):
        evaluate(accelerator, FirstRow(8), loader_of(rows, 2))
    # What they are compared with is measured before, on the same pictures.
    monkeypatch.setattr(accelerator, "gather_for_metrics", lambda labels: torch.cat([labels] * 4))
    with pytest.raises(DataError, match=message):
        log_probabilities(accelerator, FirstRow(8), loader_of(rows, 2))


def test_unreadable_pictures_alone_are_no_validation_images():
    with pytest.raises(DataError, match=r"no validation image was found; see the folder val/ of --data"):
        measured(Rows([rank(0, 0)], [UNREADABLE]))


def test_fewer_than_five_classes_are_all_in_the_top_five():
    labels = [0, 1, 2]
    rows = Rows([rank(0, 0, 3), rank(1, 2, 3), rank(2, 1, 3)], labels)
    assert measured(rows, num_classes=3) == {"top1": 33.3333, "top5": 100.0, "images": 3}


def test_the_network_is_evaluated_without_gradients_in_eval_mode():
    network = FirstRow(8).train()
    evaluate(Accelerator(cpu=True), network, loader_of(Rows([rank(0, 0)], [0]), 1))
    assert network.modes == {(False, False)}
    assert not network.training


@pytest.fixture
def tensor_float_32():
    """On while the test runs, as a user may have it."""
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = True
    yield
    for backend, allowed in zip(backends, before, strict=True):
        backend.allow_tf32 = allowed


def test_tensor_float_32_is_off_while_evaluating(tensor_float_32):
    seen, network = [], FirstRow(8)
    network.register_forward_hook(
        lambda *_: seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
    )
    evaluate(Accelerator(cpu=True), network, loader_of(Rows([rank(0, 0)], [0]), 1))
    assert seen == [(False, False)]


def drawn(count: int, *, seed: int) -> list[list[float]]:
    return (2 * torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))).tolist()


def compared(logits: list[list[float]], reference: list[list[float]], labels: list[int], batch_size: int):
    """Return the figures of one network beside another, on the same images."""
    accelerator, loaders = (
        Accelerator(cpu=True),
        [loader_of(Rows(rows, labels), batch_size) for rows in (reference, logits)],
    )
    known = log_probabilities(accelerator, FirstRow(8), loaders[0])
    return evaluate(accelerator, FirstRow(8), loaders[1], known)


@pytest.mark.parametrize("batch_size", [1, 4, 11, 100])
def test_kl_and_standard_errors_are_those_of_the_formulas_whatever_the_batch_size(batch_size):
    logits, reference = drawn(11, seed=0), drawn(11, seed=1)
    labels = [(best + (index < 4)) % 8 for index, best in enumerate(np.argmax(logits, 1).tolist())]
    found = compared(logits, reference, labels, batch_size)
    of_each = rel_entr(np.exp(log_softmax(reference, 1)), np.exp(log_softmax(logits, 1))).sum(1)
    hits = np.argmax(logits, 1) == labels
    assert hits.sum() == 7
    assert list(found)[:3] == ["top1", "top5", "images"]
    assert {*list(found)[3:]} == {f"{key}{end}" for key in ("agreement", "kl") for end in ("", "_standard_error")} | {
        "top1_standard_error"
    }
    agreeing = np.argmax(logits, 1) == np.argmax(reference, 1)
    assert 0 < agreeing.sum() < 11
    assert found["agreement"] == pytest.approx(100 * agreeing.mean(), abs=1e-4)
    assert found["agreement_standard_error"] == pytest.approx(100 * np.std(agreeing) / np.sqrt(11), abs=1e-4)
    assert found["kl"] == pytest.approx(of_each.mean(), abs=2e-6)
    assert found["kl_standard_error"] == pytest.approx(sem(of_each), abs=2e-6)
    assert found["top1"] == pytest.approx(100 * hits.mean(), abs=1e-4)
    assert found["top1_standard_error"] == pytest.approx(100 * np.std(hits) / np.sqrt(11), abs=1e-4)


def test_unreadable_pictures_are_left_out_of_kl_and_standard_errors(capsys):
    logits, reference = drawn(6, seed=2), drawn(6, seed=3)
    labels = [0, UNREADABLE, 1, 2, UNREADABLE, 3]
    kept = [0, 2, 3, 5]
    found = compared(logits, reference, labels, 4)
    alone = compared(*([rows[index] for index in kept] for rows in (logits, reference, labels)), 4)
    assert found == alone | {"unreadable": 2}
    assert capsys.readouterr().err.count("cannot be decoded, left out: picture 1 (broken)") == 2


def test_a_network_beside_itself_has_no_divergence():
    rows = drawn(5, seed=4)
    found = compared(rows, rows, [0, 1, 2, 3, 4], 2)
    assert (found["kl"], found["kl_standard_error"]) == (0.0, 0.0)
    assert (found["agreement"], found["agreement_standard_error"]) == (100.0, 0.0)


def test_without_labels_there_is_agreement_and_kl_and_no_top_1():
    logits, reference = drawn(11, seed=0), drawn(11, seed=1)
    labels = np.argmax(reference, 1).tolist()
    found = compared(logits, reference, [UNLABELLED] * 11, 4)
    labelled = compared(logits, reference, labels, 4)
    assert found == {key: value for key, value in labelled.items() if not key.startswith("top")}
    assert found["agreement"] == labelled["top1"]


def test_an_unreadable_picture_without_a_label_agrees_with_nothing(capsys):
    logits, reference = drawn(6, seed=2), drawn(6, seed=3)
    labels = [UNLABELLED, UNREADABLE, *[UNLABELLED] * 4]
    kept = [0, 2, 3, 4, 5]
    found = compared(logits, reference, labels, 4)
    alone = compared(*([rows[index] for index in kept] for rows in (logits, reference, labels)), 4)
    assert found == alone | {"unreadable": 1}
    assert "cannot be decoded, left out: picture 1 (broken)" in capsys.readouterr().err


def test_without_a_reference_there_is_no_kl():
    rows = Rows(drawn(4, seed=5), [0, 1, 2, 3])
    assert measured(rows).keys() == {"top1", "top5", "images"}


def test_log_probabilities_are_of_each_batch_in_order_without_gradients_in_eval_mode():
    logits, network = drawn(7, seed=6), FirstRow(8).train()
    found = log_probabilities(Accelerator(cpu=True), network, loader_of(Rows(logits, [0] * 7), 3))
    assert [batch.shape for batch in found] == [(3, 8), (3, 8), (1, 8)]
    np.testing.assert_allclose(torch.cat(found), log_softmax(logits, 1), rtol=1e-5, atol=1e-5)
    assert network.modes == {(False, False)}


def test_tensor_float_32_is_off_for_log_probabilities_too(tensor_float_32):
    seen, network = [], FirstRow(8)
    network.register_forward_hook(
        lambda *_: seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
    )
    log_probabilities(Accelerator(cpu=True), network, loader_of(Rows([rank(0, 0)], [0]), 1))
    assert seen == [(False, False)]
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_predictions_that_are_no_numbers_have_no_top_1(wrong, capsys):
    logits, labels = [[1.0, 2.0], [wrong, 0.0], [0.0, wrong], [wrong, 0.0]], [1, 0, 1, UNREADABLE]
    message = (
        "^the predictions of the network are not numbers for 2 of 3 images: look for weights that are not finite, or a "
        "division by what can be 0 behind its layers$"
    )
    with pytest.raises(TrainingError, match=message):
        measured(Rows(logits, labels), num_classes=2)
    # A class that is ruled out is one, and what an unreadable picture is taken for is no prediction.
    rows = Rows([[1.0, -float("inf")], [wrong, 0.0]], [0, UNREADABLE])
    assert measured(rows, num_classes=2)["top1"] == 100


def test_predictions_that_are_no_numbers_have_no_divergence():
    loader = loader_of(Rows([[1.0, 2.0], [float("nan"), 0.0]], [1, 0]), 2)
    accelerator = Accelerator(cpu=True)
    with pytest.raises(TrainingError, match="^the predictions of the network are not numbers for 1 of 2 images: "):
        evaluate(accelerator, FirstRow(2), loader, [torch.zeros(2, 2).log_softmax(-1)])
    # Nor has a network beside a reference whose own are none.
    loader = loader_of(Rows([[1.0, 2.0], [1.0, 0.0]], [1, 0]), 2)
    with pytest.raises(TrainingError, match="^the predictions of the network are not numbers: its divergence from "):
        evaluate(accelerator, FirstRow(2), loader, [torch.full((2, 2), float("nan"))])
