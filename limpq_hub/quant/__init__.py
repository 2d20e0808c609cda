"""RUN the bits: the LSQ quantizer, the quantized layers, and the conversion of any network.

Networks run by *fake quantization*: floating-point arithmetic on values that lie exactly on their integer grids. The
accuracy is real, the speed is not that of integers; `limpq_hub.quant.integer_layers` multiplies the integers of
convolutions as such, on a CPU.

In a training loop of your own, `images` being a batch, [batch, 3, height, width]:

```python
from limpq_hub.quant.learned_indicators import read_indicators
from limpq_hub.quant.profile import profile_module
from limpq_hub.train.method.joint_step import joint_policies

costs = profile_module(network, images)
supernet = limpq_hub.to_supernet(network, candidates=(2, 3, 4, 5, 6), example_input=images)
for policy in joint_policies("my network", costs, (2, 3, 4, 5, 6), seed=0, step=0):  # the passes of one step
    limpq_hub.set_policy_(supernet, policy)
    loss_of(supernet(images)).backward()
indicators = read_indicators(supernet, costs, input_size=64, num_classes=10)
policy = limpq_hub.search(indicators, bitops="w4a4").policy
quantized = limpq_hub.to_quantized(network, policy, example_input=images)  # one policy, to be fine-tuned
```

`exclude=` and `fix=` (below) are given to `profile_module` and to `to_supernet` alike.

## What is quantized

One forward pass on the meta device (`limpq_hub.quant.tracing`) shows all that a network multiplies, and every
multiply-accumulate is counted, as PyTorch's flop counter counts:

- *Layers*: convolutions and linear layers of any class, input and weight. A layer is turned into a quantized one in
  place, and computes what its class computes: padding of its own, a standardised weight (that one is quantized), a call
  by keyword, from a list that holds it beside its registration, or through `F.linear(x, layer.weight)`. Layers that
  share a weight share all steps, and must not make different weights of it.
- *Products of two activations*: query with key ("...attn.qk"), attention with value ("...attn.av"), and others. Each
  operand has bits of its own; of the second they are called weight bits. `nn.MultiheadAttention` is written out.
- *What stays in float*: what is excluded, and what no quantizer reaches, such as a parameter that is no layer's. It has
  32/32 bits in every policy and is counted with them. LayerNorm and softmax multiply nothing here and stay in float.

Whether the input of a layer can be negative follows from what is in front of it (`limpq_hub.quant.bounds`). After
SiLU, GELU or hard-swish it is negative but bounded: its grid has a zero point of its own, a whole number of steps.

```python
to_supernet(network, example_input=images, exclude=["blocks.0.*"])  # stays in float
to_supernet(network, example_input=images, fix=["*.qk", "*.av"])  # at 8/8 bits, as the first and the last layer are
to_supernet(network, example_input=images, per_channel=True)  # a weight step for each output channel
```

`limpq check NAME` shows all this of any timm network, in seconds: run it first.

## Where things are

`limpq_hub.quant.convert` has the conversions, `limpq_hub.quant.learned_indicators` reads the indicators of a trained
supernet, `limpq_hub.quant.profile` measures the costs of a module. `limpq_hub.quant.calibrate` sets step sizes and zero
points from unlabelled images, at the least squared rounding error. `limpq_hub.quant.batch_norm_calibration` sets
BatchNorm statistics; where nothing is trained, `correct_batch_norm_` undoes what quantization shifted
(`tests/benchmarks/README.md` has figures).

## How fast it runs

A network from `load` computes once what never changes, batch normalizations included; `torch.compile` makes one graph
of it. `tests/benchmarks/integers.py` times it beside the float network, and `limpq_hub.quant.frozen_layers` says when
it computes as in training.

## What does not show

- A converted layer, and a module that multiplies by itself, has its class swapped for one made at run time in front of
  its own: copies work, pickle does not; save checkpoints with `limpq_hub.zoo.checkpoint`.
- A module that multiplies by itself is quantized inside its `forward`; its other methods, called from outside, run in
  float. Inside it other torch function modes do not see the multiplications.
- A layer that computes its weight stops doing so in a network that was loaded from a checkpoint: there it takes the
  packed weight as it is.
"""
