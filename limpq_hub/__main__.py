"""`python -m limpq_hub` is the `limpq` command."""

import sys

from limpq_hub.cli import main

sys.exit(main())
