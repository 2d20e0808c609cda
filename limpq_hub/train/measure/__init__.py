"""What a trained network is worth: top-1, divergence from the float network, comparisons."""
