"""RUN the bits: the LSQ quantizer, the quantized layers, and the conversion of any network."""
