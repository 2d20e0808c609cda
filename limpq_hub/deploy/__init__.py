"""DEPLOY the bits: a quantized network as a file that computes in integers elsewhere, checked.

```python
model = limpq_hub.load("resnet18", bitops="3G")
exported = limpq_hub.export(model, "out/r18", format="openvino", images=batches)
print(exported.parity, exported.integer_layers)
```

    limpq export resnet18 --bitops 3G --format openvino --output out/r18 --images FOLDER --explain

`pip install "limpq-hub[export]"` brings what it needs. The ONNX graph is written straight from the integers and steps
of the network, in the order of one recorded forward pass, so that nothing is estimated anew.

## Formats

- *openvino*: QuantizeLinear and DequantizeLinear around float operators. OpenVINO multiplies in integers, adds up in 32
  bits, and scales, adds residuals and normalizes in float, as the simulation does: the same network, but for rounding
  ties. Compile it with `{"INFERENCE_PRECISION_HINT": "f32"}`: on a CPU with AMX it computes in bfloat16 otherwise.
- *onnxruntime*: batch normalizations folded, everything between the layers in 8 bits too, on ranges measured on
  pictures, since ONNX Runtime multiplies integers only where 8 bits go in and come out. An approximation:
  the agreement is printed and not judged.
- *qonnx*: Quant nodes that say the bits as such, for FINN and hls4ml, which make hardware of them. Its
  `inference_cost(discount_sparsity=False)` counts the BitOps and the weight bits that a plan has.

Without VNNI (a CPU of AVX2) two products of 8 bits can overflow the 16 that they are added up in, at 7 bits or fewer
they cannot: `--no-vnni` keeps weights of 8 bits in float.

## What low bits buy

| where the network runs | what fewer than 8 bits buy |
|---|---|
| a CPU, by OpenVINO, ONNX Runtime or torch | no time: 8 bits are multiplied whatever the policy says |
| hardware made for the network, by FINN or hls4ml from *qonnx* | time, energy and area: multipliers have as many bits |
| NPUs, microcontrollers and GPUs with arithmetic of 4 bits | time, if the search keeps to it: `--candidates 4 8` |
| anywhere: what is stored and sent | the packed checkpoint has the bits of the policy; `model.onnx` has 4 or 8 |

## What is checked

Before anything is written to the folder: the integers and steps are read back from the graph and compared bit for bit
with those of the network; and the logits of pictures are compared. Two orders of the same float additions differ in the
last digits, and where such a value lies on the edge between two integers it is rounded to the other one: so no bound on
the difference of logits holds. What must hold, but for *onnxruntime*, is that 90 % of the pictures are within 1e-4, and
that 99.5 % have the same class; the figures are in `verify.json`. `--explain` lists which layers run in integers in the
runtime at hand.

## What can be exported

Convolutional networks: convolutions of any stride, groups and padding, linear layers, batch normalizations, additions,
products of two values, concatenation, pooling, ReLU, ReLU6, SiLU, hard-swish and the like; steps for each channel,
grids with a zero point, and layers in float too. What a network has beside that, attention for instance, is refused by
name.
"""
