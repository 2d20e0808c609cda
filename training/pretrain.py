"""Float training of a timm network: `accelerate launch training/pretrain.py --help`."""

from limpq_hub.train.launching import run_command

if __name__ == "__main__":
    run_command("pretrain")
