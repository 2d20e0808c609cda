"""LSQ fine-tuning of one policy: `accelerate launch training/finetune.py --help`."""

from limpq_hub.train.finetune import main
from limpq_hub.train.launching import run

if __name__ == "__main__":
    run(main)
