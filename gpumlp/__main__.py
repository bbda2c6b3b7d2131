"""``python -m gpumlp``."""

import sys

from gpumlp.cli import main

sys.exit(main())
