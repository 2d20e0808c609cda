"""BatchNorm statistics of an entry along the frontier of its search: `python training/anchors.py --help`."""

from limpq_hub.train.launching import run_command

if __name__ == "__main__":
    run_command("anchors")
