"""LIMPQ itself: the joint training, and the gradients of its steps."""
