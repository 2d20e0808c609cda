"""The policy of a search beside uniform, random and reversed ones: `python training/compare.py --help`."""

from limpq_hub.train.launching import run_command

if __name__ == "__main__":
    run_command("compare")
