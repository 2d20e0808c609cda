"""An entry put together from the folders of trainings: `python training/publish.py --help`."""

from limpq_hub.train.launching import run_command

if __name__ == "__main__":
    run_command("publish")
