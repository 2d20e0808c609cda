"""Pictures from files as a person sees them, prepared for a network, and what the network finds in them."""

from limpq_hub.pictures.guesses import Guess, most_likely, top_classes
from limpq_hub.pictures.reading import MOST_PIXELS, read_picture

__all__ = ["MOST_PIXELS", "Guess", "most_likely", "read_picture", "top_classes"]
