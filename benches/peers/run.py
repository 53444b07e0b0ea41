"""Ours beside numpy, scikit-learn, faiss and PyTorch, in turns, on the same files.

    pip install -r benches/peers/requirements.txt
    python benches/peers/run.py
"""

import argparse
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

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


def build(skip):
    """Builds the commands and the contestant, whose name cargo chooses."""
    flags = ["--bench", "contestant", "--no-run", "--message-format", "json-render-diagnostics"]
    if not skip:
        subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True)
    messages = subprocess.run(["cargo", "bench", *flags], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    artifacts = [json.loads(line) for line in messages.splitlines()]
    found = [a["executable"] for a in artifacts if a.get("executable") and a["target"]["name"] == "contestant"]
    release = Path(found[0]).parent.parent
    return Tools(release / "train", release / "compress", Path(found[0]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="a,b,c", help="which rows, of a,b,c")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether everything runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write with every round")
    parser.add_argument("--data", type=Path, default=ROOT / "target/peers", metavar="FOLDER", help="where inputs are kept")
    parser.add_argument("--no-build", action="store_true", help="take the programs that are there")
    args = parser.parse_args()
    args.data.mkdir(parents=True, exist_ok=True)
    tools = build(args.no_build)
    record = {"machine": describe(ROOT), "rounds": args.rounds, "groups": []}
    for row in args.rows.split(","):
        sizes = (QUICK_SIZES if args.quick else SIZES)[row]
        for group in ROWS[row](tools, args.data, sizes):
            record["groups"].append(group.measure(args.rounds))
            print(render(record["groups"][-1:]), flush=True)
    print(render(record["groups"]))
    if args.json:
        args.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
