"""Between which values the tensors of a forward pass must lie, whatever the pictures show."""
