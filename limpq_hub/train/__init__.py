"""LEARN the bits: joint training, fine-tuning and their measurement; each command has one `main(argv)`."""

import sys

if sys.argv[:1] == ["-m"]:  # Python looks for a module of this package, to start it
    from limpq_hub.train.launching import tell_what_is_not_loaded

    tell_what_is_not_loaded()
