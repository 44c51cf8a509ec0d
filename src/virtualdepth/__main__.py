"""``python -m virtualdepth`` is the command ``virtualdepth``."""

import sys

from virtualdepth.cli import main

if __name__ == "__main__":
    sys.exit(main())
