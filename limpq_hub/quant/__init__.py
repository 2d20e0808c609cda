"""RUN the bits: the LSQ quantizer, the quantized layers, and the conversion of any network.

Networks run by *fake quantization*: floating-point arithmetic on values that lie exactly on their integer grids. The
accuracy is real, the speed of integer arithmetic is not shown.

In a training loop of your own, `images` being a batch, [batch, 3, height, width]:

```python
supernet = limpq_hub.to_supernet(network, candidates=(2, 3, 4, 5, 6), example_input=images)
limpq_hub.set_policy_(supernet, policy)  # this step runs at the bits of `policy`
quantized = limpq_hub.to_quantized(network, policy, example_input=images)  # one policy, to be fine-tuned
```

`limpq_hub.quant.convert` has the conversions, `limpq_hub.quant.learned_indicators` reads the indicators of a trained
supernet, `limpq_hub.quant.profile` measures the costs of a module, `limpq_hub.quant.calibrate` sets steps from
unlabelled images, `limpq_hub.quant.batch_norm_calibration` BatchNorm statistics.
"""
