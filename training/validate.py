"""Top-1 and top-5 of an entry or checkpoint: `accelerate launch training/validate.py --help`."""

from limpq_hub.train.launching import run
from limpq_hub.train.validate import main

if __name__ == "__main__":
    run(main)
