"""What a network multiplies in one forward pass, and which of its modules do so."""
