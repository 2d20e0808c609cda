"""LSQ fine-tuning of one policy: `accelerate launch training/finetune.py --help`."""

from limpq_hub.train.launching import run_command

if __name__ == "__main__":
    run_command("finetune")
