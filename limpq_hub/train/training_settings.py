"""What a training is asked for, in typed parts: loss, schedule, run, joint steps, export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limpq_hub.quant.calibrate import StepStart
from limpq_hub.train.settings import DeviceSettings, Invocation

COSINE, CONSTANT = "cosine", "constant"
# Epochs done before the first layers are chosen that `--spare-oscillating` spares.
FIRST_SPARING_EPOCH = 5


@dataclass(frozen=True)
class LossSettings:
    """What the loss is made of.

    Attributes:
        smoothing: of the labels, 0..1.
        distill: share of the KL divergence from a float teacher, 0..1.
        teacher: safetensors file of that teacher; None for the float network that the training starts from.
    """

    smoothing: float
    distill: float = 0.0
    teacher: str | None = None

    @property
    def teacher_option(self) -> str:
        """The option that says which network is the teacher."""
        return "--weights" if self.teacher is None else "--teacher"


@dataclass(frozen=True)
class ScheduleSettings:
    """How long and how fast a network is trained.

    Attributes:
        epochs: passes over the training pictures.
        max_steps: optimizer steps after which the training ends, if that comes first.
        gradient_accumulation: batches per process and optimizer step.
        optimizer: timm's name.
        lr: peak learning rate.
        warmup_epochs: epochs of linear warm-up before it.
        momentum: of SGD.
        weight_decay: not on step sizes, BatchNorm and biases.
        clip_value: largest gradient entry.
        ema: decay of a moving average of the weights, which is then what is kept; None for none.
        step_optimizer, step_lr: an optimizer and a peak learning rate of their own for the step sizes.
        lr_schedule: "cosine" down to 1e-5, one step after the last, or "constant", of a run that may be prolonged.
    """

    epochs: int
    max_steps: int | None
    gradient_accumulation: int
    optimizer: str
    lr: float
    warmup_epochs: float
    momentum: float
    weight_decay: float
    clip_value: float
    ema: float | None
    step_optimizer: str | None
    step_lr: float | None
    lr_schedule: str = COSINE


@dataclass(frozen=True)
class RunSettings:
    """Where a run leaves its results, and when.

    Attributes:
        output: folder of the run.
        resume: whether the run in that folder is continued.
        save_interval: optimizer steps between two saved states.
        validate_epochs: epochs between two validations; None for one at the end only.
    """

    output: Path
    resume: bool
    save_interval: int
    validate_epochs: int | None


@dataclass(frozen=True)
class TrainingSettings:
    """What the training loop needs, whatever it trains.

    Attributes:
        seed: of what is drawn within a step, such as dropout.
        freeze_batch_norm: whether every batch normalization keeps the statistics that it starts with, in training and
            after it.
    """

    seed: int
    device: DeviceSettings
    schedule: ScheduleSettings
    run: RunSettings
    invocation: Invocation
    freeze_batch_norm: bool = False


@dataclass(frozen=True)
class QuantizationSettings:
    """What of a network is quantized, and how.

    Attributes:
        exclude: shell patterns over the names of layers, products and modules that stay in float.
        fix: shell patterns over those that are fixed at 8/8 bits, as the first and the last layer are.
        per_channel: whether every output channel of a layer has a weight step of its own.
        step_start: "lsq" or "least-error": what the step sizes start from.
    """

    exclude: Sequence[str]
    fix: Sequence[str]
    per_channel: bool
    step_start: StepStart


@dataclass(frozen=True)
class JointSettings:
    """The passes of a joint step.

    Attributes:
        model: name that the policies carry.
        candidates: bit-widths, each in 2..8.
        uniform: "all" for a uniform pass at each candidate, "highest" for one at the most bits.
        mixtures: passes at random bits.
        in_place_distill: share of the loss that is KL to the pass at the most bits, 0..1.
        output_distance: factor on the squared difference of each layer's output to that of the pass at the most bits.
        spare_oscillating: share of layers, those whose weights flip most, that are kept from their fewest bits, 0..1.
        share_stem: whether what comes before the first searched layer runs once per step.
        seed: of the mixtures.
    """

    model: str
    candidates: Sequence[int]
    uniform: str
    mixtures: int
    in_place_distill: float
    output_distance: float
    spare_oscillating: float
    share_stem: bool
    seed: int


@dataclass(frozen=True)
class ExportSettings:
    """What is made of a trained supernet.

    Attributes:
        output: folder of the entry.
        model: timm name that the indicators carry.
        candidates: bit-widths of the supernet.
        alpha: default factor of the weight importance in a search; None to measure it.
        anchor_gap: bits by which neighbouring policies differ whose BatchNorm statistics are kept.
        measure_images: how many of the images each pair of bits of each layer is measured on; 0 for none.
        freeze_batch_norm: whether policies have the statistics of the float network, corrected for what quantization
            changes, instead of those of the images.
    """

    output: Path
    model: str
    candidates: Sequence[int]
    alpha: float | None
    anchor_gap: int
    measure_images: int
    freeze_batch_norm: bool = False
