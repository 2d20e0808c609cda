"""Interval analysis: lower and upper bounds of the tensors of a forward pass, for any input."""
