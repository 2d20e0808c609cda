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
they cannot. A file for *openvino* is written so that it is exact on the CPU that writes it: without VNNI weights of 8
bits stay in float. `--no-vnni` makes such a file elsewhere, `--vnni` keeps all weights as integers. `verify.json` says
which (`needs_vnni`), and `limpq predict --exported` and `validate.py` say so where a file meets a CPU on which it is
not exact.

## What low bits buy

| who runs it | what fewer than 8 bits buy | source |
|---|---|---|
| CPUs, by OpenVINO, ONNX Runtime or torch | no time: all multiply 8 bits whatever the policy says | 1 |
| CPUs without VNNI | 7 bits or fewer cannot overflow there, and run in integers | 2 |
| hardware made of the network, by FINN or hls4ml | time, energy, area: a multiplier has its layer's bits | 3 |
| GPUs with tensor cores for INT4 | time at 4/4 bits; search with `--candidates 4 8`; no kernels here | 4 |
| microcontrollers, with kernels for 2, 4 and 8 bits | memory; time, with instructions for them | 5 |
| NPUs | what the tool of its maker takes: ask its data sheet | - |
| everyone: what is stored and sent | ResNet-18 at 3G: 3.68 MB of 45.08; `model.onnx` has 4 or 8 bits | 6 |

1. `tests/benchmarks/latency_budget.py`: milliseconds of policies of fewer and more bits, side by side.
2. `limpq_hub.quant.integer_layers`; shown by `ONEDNN_MAX_CPU_ISA=AVX2` with `tests/benchmarks/integer_agreement.py`.
3. Umuroglu et al., "FINN", FPGA 2017; Coelho et al., "Automatic heterogeneous quantization of deep neural networks",
   Nature Machine Intelligence 2021 (hls4ml). The file is that of `--format qonnx`.
4. Yao et al., "HAWQ-V3", ICML 2021: ResNet-50 at 4 bits 1.45 times as fast as at 8 on a T4.
5. Rusci et al., "Memory-Driven Mixed Low Precision Quantization", MLSys 2020; Bruschi et al., "Enabling Mixed-Precision
   Quantized Neural Networks in Extreme-Edge Devices", Computing Frontiers 2020.
6. `limpq list`: on disk and in float32; an entropy code takes fewer bits than the policy has.

## What is checked

Before anything is written to the folder: the integers and steps are read back from the graph and compared bit for bit
with those of the network; and the logits of pictures are compared. Two orders of the same float additions differ in the
last digits, and where such a value lies on the edge between two integers it is rounded to the other one: so no bound on
the difference of logits holds. What must hold, but for *onnxruntime*, is that 90 % of the pictures are within 1e-4 (of
logits above 52, within 2^-19 of the largest), and that 99.5 % have the same class. Large pictures, and noise, which
stands in where no pictures are given, have such edges in every picture, and from the first of them on all is different:
there float32 alone misses those 90 % beside float64.
Then each layer is judged by itself: from the integers that the runtime had there (up to 16 pictures) float64 computes
what the next layer gets, and the runtime must have the same integers, but for those whose value is within 0.001 steps
of the edge, and in the end the same logits. All figures are in `verify.json`. `--explain` lists which layers run in
integers in the runtime at hand.

## What can be exported

Convolutional networks: convolutions of any stride, groups and padding, linear layers, batch normalizations, additions,
products of two values, concatenation, pooling, ReLU, ReLU6, SiLU, hard-swish and the like; steps for each channel,
grids with a zero point, and layers in float too. What a network has beside that, attention for instance, is refused by
name.
"""
