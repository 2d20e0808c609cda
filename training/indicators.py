"""Joint training of every layer's step sizes: `accelerate launch training/indicators.py --help`."""

from limpq_hub.train.indicators import main
from limpq_hub.train.launching import run

if __name__ == "__main__":
    run(main)
