"""Branch coverage of each core package, from the last test run; exit 1 below the bar.

coverage's own --fail-under mixes lines with branches; what decides is held to its branches.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

CORES = ("agent/core", "coordinator/core")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fail-under", type=float, required=True, help="percent of branches, 0 to 100")
    fail_under = parser.parse_args().fail_under
    include = ",".join(f"{core}/*" for core in CORES)
    coverage = [sys.executable, "-m", "coverage"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        subprocess.run([*coverage, "json", "-q", f"--include={include}", "-o", str(report)], check=True)
        files = json.loads(report.read_text())["files"]
    subprocess.run([*coverage, "report", "--show-missing", f"--include={include}"], check=True)
    good = True
    for core in CORES:
        totals = [file["summary"] for path, file in files.items() if path.startswith(core)]
        branches = sum(total["num_branches"] for total in totals)
        covered = sum(total["covered_branches"] for total in totals)
        percent = 100.0 * covered / branches if branches else 0.0
        enough = percent >= fail_under
        good = good and enough
        verdict = "ok" if enough else f"below {fail_under:g} %"
        print(f"{core}: {covered} of {branches} branches, {percent:.1f} %: {verdict}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
