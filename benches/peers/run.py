"""Ours beside numpy, scikit-learn, faiss and PyTorch: the same work on the same files, in turns.

    pip install -r benches/peers/requirements.txt
    python benches/peers/run.py --json peers.json

Every contestant runs once in a round, so that what else the machine does falls on all of them, and a ratio compares runs of the same
seconds: the peer's time by ours. `ours again` is a second process of ours and must come to about 1. A round that warms up is not
counted. Inputs are made from a stated seed. Every comparison first makes sure that all did the same work, and ends if not.

a. compress. Ours is the command, from the start of its process to its exit. Peers run in a process that has imported them, from opening the
   input to closing the output, which favours them. Files are synced to disk, as our command does; "not synced" shows what that costs.
b. exact neighbours. The first rows are the queries. Copying rows into an index is not timed.
c. spectrum. One centred fit, with the copies of the rows that a library makes. What takes minutes is run once.
d. training. `train.py` is the same algorithm. The time of a step is without validation. The time to PyTorch's recall is that of ours from the
   start of its process, with reading, spectra and search, until an epoch validates as well as PyTorch's best, less .002, by the mean
   of recall@50 and @10; and PyTorch's from the end of its imports to that of its last epoch.

Each library has a process of its own and all cores. Runs are .2 s apart: threads that wait for work spin less long than that. On a machine
that is busy otherwise, peers whose threads wait for each other lose more than ours, so only a quiet one gives ratios to quote.
"""

import argparse
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import groups_training as training
from groups import QUICK_SIZES, ROWS, SIZES
from machine import describe
from table import render

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class Tools:
    """Our programs."""

    train: Path
    compress: Path
    contestant: Path


def programs(build):
    """The commands and the contestant, built anew or as they are."""
    if build:
        for command in (["build", "--release"], ["bench", "--bench", "contestant", "--no-run"]):
            subprocess.run(["cargo", *command, "--target-dir", "target"], cwd=ROOT, check=True)
    release = ROOT / "target/release"
    # Cargo puts a hash behind its name; older builds stay.
    contestants = [path for path in release.glob("deps/contestant-*") if path.suffix in ("", ".exe")]
    return Tools(release / "train", release / "compress", max(contestants, key=lambda path: path.stat().st_mtime))


def measured(args, tools):
    """The records of all groups, one after another."""
    for row in args.rows.split(","):
        if row == "d":
            for task in training.tasks(args.data, args, args.quick):
                yield training.steps(tools, args.data, task, args.device).measure(args.rounds)
                if args.long_rounds > 0:
                    yield training.to_recall(tools, args.data, task, args.device, args.long_rounds)
        else:
            sizes = (QUICK_SIZES if args.quick else SIZES)[row]
            for group in ROWS[row](tools, args.data, sizes):
                yield group.measure(args.rounds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="a,b,c,d", help="which rows")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--long-rounds", type=int, default=1, help="rounds of whole trainings in row d, of minutes each; 0: none")
    parser.add_argument("--wordnet", type=Path, metavar="FILE.npy", help="rows for row d with a hidden layer, in place of synthetic ones")
    parser.add_argument("--debian", type=Path, metavar="FILE.npy", help="rows for row d, linear, in place of synthetic ones")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu", help="of row d")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether everything runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write with every round")
    parser.add_argument("--data", type=Path, default=ROOT / "target/peers", metavar="FOLDER", help="where inputs are kept")
    parser.add_argument("--no-build", action="store_true", help="take the programs that are there")
    args = parser.parse_args()
    args.data.mkdir(parents=True, exist_ok=True)
    tools = programs(not args.no_build)
    record = {"machine": describe(ROOT), "rounds": args.rounds, "groups": []}
    for group in measured(args, tools):
        record["groups"].append(group)
        print(render([group]), flush=True)
    print("\n" + render(record["groups"]))
    if args.json:
        args.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
