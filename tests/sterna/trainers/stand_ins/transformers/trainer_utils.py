"""See the package."""

import re
from pathlib import Path


def get_last_checkpoint(folder):
    found = [path for path in Path(folder).iterdir() if re.match(r"checkpoint-\d+$", path.name)]
    return str(max(found, key=lambda path: int(path.name.split("-")[1]))) if found else None
