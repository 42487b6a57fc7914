"""Train a style: ``python -m train --style PAINTING --content FOLDER --out RUN``."""

import sys

from train.steered import main

sys.exit(main())
