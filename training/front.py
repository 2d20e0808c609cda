"""Top-1 of the joint weights at budgets over the whole range: `accelerate launch training/front.py --help`."""

from limpq_hub.train.launching import run_command

if __name__ == "__main__":
    run_command("front")
