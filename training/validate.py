"""Top-1 and top-5 of an entry or checkpoint: `accelerate launch training/validate.py --help`."""

from limpq_hub.train.launching import run_command

if __name__ == "__main__":
    run_command("validate")
