"""LIMPQ itself: the gradients of a joint step and the networks they belong to."""
