"""The learned policy beside uniform, random and reversed ones: `python training/compare.py --help`."""

from limpq_hub.train.compare import main
from limpq_hub.train.launching import run

if __name__ == "__main__":
    run(main)
