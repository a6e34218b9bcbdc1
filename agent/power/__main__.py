"""``python -m agent.power``: the same as the command ``sterna-power``."""

import sys

from agent.power.main import main

if __name__ == "__main__":
    sys.exit(main())
