"""How many bytes of a checkpoint cross the link at the stop: as it is, coded alone, beside a pre-staged one.

Trainings are real: a small transformer with AdamW in fp32, in bf16, and with LoRA adapters, by torch,
which is no dependency of Sterna: name an interpreter that has torch and safetensors with --torch-python.
Without one the simulator's trainer (numpy, fp32, Adam) stands in, and the result says so. Speed is CPU
seconds of one core on a large fp32 tensor, hashing and proof included; BLAKE3 in the same run tells how
fast the machine was just then.

    scripts/bench delta [--torch-python PATH] [--picture FILE]

The last line is one JSON object.
"""

import argparse
import filecmp
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import blake3
import numpy as np

from agent.core.codec_plan import as_it_is, coded
from agent.jobs.codec.decode import decode
from agent.jobs.codec.encode import encode
from agent.simulator.network import Training

CASES = ("fp32", "bf16", "lora")
BUDGETS_S = {2.5: 900.0, 9.5: 3420.0}
"""Migration budgets of docs/feasibility.md: alpha = 0.10 of windows in hours."""
LINKS_BPS = (1e8, 1e9, 1e10)
SPEED_BYTES = 256 * 1024 * 1024
GB = 1e9


def has_torch(python: str) -> bool:
    probe = subprocess.run([python, "-c", "import torch, safetensors"], capture_output=True, check=False)
    return probe.returncode == 0


def train_with_torch(given: argparse.Namespace, folder: Path) -> None:
    for case in given.cases:
        command = [given.torch_python, str(Path(__file__).with_name("delta_trainings.py")), str(folder)]
        command += ["--case", case, "--width", str(given.width), "--depth", str(given.depth)]
        command += ["--warm-up", str(given.warm_up), "--rates", *map(str, given.rates)]
        command += ["--steps", *map(str, given.steps)]
        print(f"training {case} ...", file=sys.stderr)
        subprocess.run(command, check=True)


def train_with_numpy(given: argparse.Namespace, folder: Path) -> None:
    training = Training(seed=0, params=300_000)
    done = 0
    for name, steps in (("warm", given.warm_up), *((str(n), given.warm_up + n) for n in given.steps)):
        while done < steps:
            training.advance()
            done += 1
        target = folder / "numpy-fp32" / "default" / name
        target.mkdir(parents=True)
        training.store(target, ())


def measure(new: Path, old: Path | None, scratch: Path):
    """Encode, decode, compare every byte."""
    container, out = scratch / "container", Path(tempfile.mkdtemp(dir=scratch)) / "out"
    summary = encode(new, container, old)
    decode(container, out, old, max_bytes=summary.size_bytes)
    files = [path.relative_to(new) for path in new.rglob("*") if path.is_file()]
    same, different, wrong = filecmp.cmpfiles(new, out, files, shallow=False)
    if different or wrong or len(same) != len(files):
        raise SystemExit(f"{new}: not the same bits")
    container.unlink()
    return summary


def rows_of(folder: Path, scratch: Path) -> list[dict[str, object]]:
    rows = []
    for run in sorted(path for path in folder.glob("*/*") if path.is_dir() and path.name != "base"):
        base = run.parent / "base"
        for new in sorted((p for p in run.iterdir() if p.name != "warm"), key=lambda p: int(p.name)):
            alone = measure(new, None, scratch)
            ahead = measure(new, run / "warm", scratch)
            row = {
                "case": run.parent.name,
                "learning_rate": run.name,
                "steps_since": int(new.name),
                "size_bytes": alone.size_bytes,
                "alone_bytes": alone.sent_bytes,
                "prestaged_bytes": ahead.sent_bytes,
                "alone_frac": round(alone.sent_bytes / alone.size_bytes, 4),
                "prestaged_frac": round(ahead.sent_bytes / ahead.size_bytes, 4),
                "codecs": {k: round(sent / given, 4) for k, (given, sent) in ahead.codec_bytes.items()},
            }
            if base.is_dir():
                row["base_known_bytes"] = measure(new, base, scratch).sent_bytes
                row["base_known_frac"] = round(row["base_known_bytes"] / alone.size_bytes, 4)
            rows.append(row)
    return rows


def speeds(scratch: Path) -> dict[str, float]:
    """MB of checkpoint per CPU second: one fp32 tensor a small step away from the earlier one."""
    dice = np.random.default_rng(0)
    weights = (0.02 * dice.standard_normal(SPEED_BYTES // 4)).astype("f4")
    old, new = scratch / "old.npy", scratch / "new.npy"
    np.save(old, weights)
    np.save(new, weights + (3e-4 * dice.standard_normal(len(weights))).astype("f4"))
    began_s = time.process_time()
    blake3.blake3(weights.view(np.uint8).data).digest()
    found = {"blake3_mb_per_cpu_s": SPEED_BYTES / 1e6 / (time.process_time() - began_s)}
    for name, base in (("planes", None), ("delta", old)):
        best = {"encode": float("inf"), "decode": float("inf")}
        for _ in range(3):
            began_s = time.process_time()
            encode(new, scratch / "container", base)
            best["encode"] = min(best["encode"], time.process_time() - began_s)
            began_s = time.process_time()
            decode(scratch / "container", scratch / "out.npy", base, max_bytes=2 * SPEED_BYTES)
            best["decode"] = min(best["decode"], time.process_time() - began_s)
            (scratch / "out.npy").unlink()
        for verb, cpu_s in best.items():
            found[f"{verb}_{name}_mb_per_cpu_s"] = SPEED_BYTES / 1e6 / cpu_s
    return {name: round(value) for name, value in found.items()}


def domain(frac: float, encode_bytes_s: float, decode_bytes_s: float) -> list[dict[str, float]]:
    """Largest checkpoint, in GB, whose stop fits the budget: time is proportional to size, so 1 GB tells."""
    rows = []
    for link_bps in LINKS_BPS:
        plain = as_it_is(int(GB), link_bps)
        thin = coded(
            int(GB), int(frac * GB), link_bps, encode_bytes_s=encode_bytes_s, decode_bytes_s=decode_bytes_s
        )
        for window_h, budget_s in BUDGETS_S.items():
            rows.append(
                {
                    "link_bps": link_bps,
                    "window_h": window_h,
                    "plain_gb": round(budget_s / plain.total_s, 1),
                    "in_turn_gb": round(budget_s / thin.total_s, 1),
                    "streamed_gb": round(budget_s / thin.streamed_s, 1),
                }
            )
    return rows


def picture(path: Path, result: dict[str, object]) -> None:
    """Feasible domain: largest checkpoint over the link, in a window of 2.5 h."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "sterna", "font.size": 9})
    links = np.geomspace(2e7, 2e10, 60)
    figure, axes = pyplot.subplots(figsize=(6.4, 3.8))
    axes.plot(links / 1e9, BUDGETS_S[2.5] * links / 8 / GB, color="0.3", label="as it is")
    encode_bytes_s = 1e6 * result["speed"]["encode_delta_mb_per_cpu_s"]
    decode_bytes_s = 1e6 * result["speed"]["decode_delta_mb_per_cpu_s"]
    for label, frac in result["picture_fracs"].items():
        limits = [
            BUDGETS_S[2.5]
            / coded(
                int(GB), int(frac * GB), bps, encode_bytes_s=encode_bytes_s, decode_bytes_s=decode_bytes_s
            ).streamed_s
            for bps in links
        ]
        axes.plot(links / 1e9, limits, label=f"pre-staged, {label} ({frac:.2f})")
    axes.set(xscale="log", yscale="log", xlabel="goodput, Gbps", ylabel="largest checkpoint, GB")
    axes.set_title(
        "Feasible below each line: 2.5 h window, α = 0.10, one core per side, streamed", fontsize=9
    )
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter with torch")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--warm-up", type=int, default=200, help="steps before the pre-staged checkpoint")
    parser.add_argument("--rates", type=float, nargs="+", default=(3e-4, 1e-5), help="learning rates")
    parser.add_argument("--steps", type=int, nargs="+", default=(1, 10, 100), help="steps until the stop")
    parser.add_argument("--picture", type=Path, help="also draw the feasible domain (needs matplotlib)")
    parser.add_argument("--from-json", type=Path, help="draw from an earlier result, measure nothing")
    given = parser.parse_args()
    earlier = given.from_json and given.from_json.read_text()
    result = json.loads(earlier.splitlines()[-1]) if earlier else run(given)
    if given.picture:
        picture(given.picture, result)
    print(json.dumps(result))


def run(given: argparse.Namespace) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        folder, scratch = Path(name) / "runs", Path(name) / "scratch"
        scratch.mkdir()
        torch = has_torch(given.torch_python)
        if torch:
            train_with_torch(given, folder)
        else:
            print("torch is not there: the simulator's numpy trainer stands in", file=sys.stderr)
            train_with_numpy(given, folder)
        rows = rows_of(folder, scratch)
        speed = speeds(scratch)
    last = [row for row in rows if row["steps_since"] == max(given.steps)]
    fracs = {f"{row['case']} at {row['learning_rate']}": row["prestaged_frac"] for row in last}
    rates = [1e6 * speed[f"{verb}_delta_mb_per_cpu_s"] for verb in ("encode", "decode")]
    return {
        "trainer": "torch" if torch else "numpy",
        "rows": rows,
        "speed": speed,
        "picture_fracs": fracs,
        "domain": {label: domain(frac, *rates) for label, frac in fracs.items()},
    }


if __name__ == "__main__":
    main()
