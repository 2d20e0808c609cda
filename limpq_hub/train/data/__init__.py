"""The pictures a training reads: where they are, how they are decoded, cached and batched."""
