"""Float training of a timm network: `accelerate launch training/pretrain.py --help`."""

from limpq_hub.train.launching import run
from limpq_hub.train.pretrain import main

if __name__ == "__main__":
    run(main)
