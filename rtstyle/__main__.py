"""``python -m rtstyle`` is ``rtstyle``."""

import sys

from rtstyle.cli import main

sys.exit(main())
