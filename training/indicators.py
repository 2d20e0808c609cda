"""Joint training of every layer's step sizes: `accelerate launch training/indicators.py --help`."""

from limpq_hub.train.launching import run_command

if __name__ == "__main__":
    run_command("indicators")
