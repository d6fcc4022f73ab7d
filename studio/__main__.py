"""python -m studio: see studio.cli."""

import sys

from studio.cli.front import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
