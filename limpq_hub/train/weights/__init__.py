"""The networks that a training starts from, and their weights: which are meant, where they are, what they take."""
