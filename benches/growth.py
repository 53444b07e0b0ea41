"""How time and memory grow with the number of rows N and their width D.

    pip install numpy
    cargo build --release && python benches/growth.py

Prints wall time and peak resident memory of `compress` to 64 dimensions, of `eval` with 1,000 queries (exact search in D and in 64
dimensions, for the map and four baselines) and of `train --epochs 1 --hidden 0`, for N = 5,000, 20,000 and 100,000 and D = 384, 1024
and 4096, beside the size of the matrix in float32. Rows are normal with standard deviation j^-0.5 in column j. What takes longer than
--limit seconds is ended and shown as such.

With --sparse instead: `compress` of 10,000,000 x 1024 numbers, a file of 41 GB without content, which takes no room on the disk but
goes through the page cache, to 2.6 GB.

Peak memory is VmHWM, so this needs Linux.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

COUNTS, DIMS = (5_000, 20_000, 100_000), (384, 1024, 4096)
DIM_OUT, QUERIES, BLOCK = 64, 1_000, 4096
TOOLS = Path(__file__).resolve().parent.parent / "target/release"


def write_rows(path, count, dim, seed):
    rng = np.random.default_rng(seed)
    deviations = np.arange(1, dim + 1, dtype=np.float32) ** -0.5
    out = np.lib.format.open_memmap(path, "w+", "<f4", (count, dim))
    for first in range(0, count, BLOCK):
        block = out[first : first + BLOCK]
        block[:] = rng.standard_normal(block.shape, dtype=np.float32) * deviations
    out.flush()


def write_sparse(path, count, dim):
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (count, dim)})
        file.truncate(file.tell() + 4 * count * dim)


def peak_memory(pid, before):
    """Largest resident memory in bytes so far; what was known before, once the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return before
    return max([before, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))])


def measure(limit, *command):
    """Seconds, or none if they are more than the limit, and peak resident memory in bytes."""
    start, peak = time.monotonic(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = peak_memory(process.pid, peak)
            if time.monotonic() - start > limit:
                process.kill()
                process.wait()
                return None, peak
            time.sleep(0.002)
        seconds = time.monotonic() - start
        if process.returncode:
            raise SystemExit(f"{' '.join(map(str, command))}: {process.stderr.read()}")
    return seconds, peak


def shown(measured, limit):
    seconds, peak = measured
    time_taken = f"> {limit:.0f} s" if seconds is None else f"{seconds:.2f} s"
    return f"{time_taken:>10}{peak / 1e6:>9,.0f} MB"


def commands(rows, model, folder):
    """By name. The model was trained on other rows, so that `eval` samples its queries."""
    data = ["--input", rows, "--device", "cpu"]
    every = ["--max-items", "0"]
    return {
        "compress": [TOOLS / "compress", *data, "--model", model, "--output", folder / "z.npy"],
        "eval": [TOOLS / "eval", *data, *every, "--model", model, "--queries", str(QUERIES)],
        "train": [TOOLS / "train", *data, *every, *linear(folder / "trained.npz"), "--epochs", "1"],
    }


def linear(model):
    return ["--hidden", "0", "--dim-out", str(DIM_OUT), "--model", model]


def small_model(folder, dim):
    rows, model = folder / "small.npy", folder / f"model_{dim}.npz"
    write_rows(rows, 1_000, dim, seed=1)
    command = [TOOLS / "train", "--input", rows, "--device", "cpu", *linear(model), "--epochs", "0"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return model


def grid(folder, counts, dims, limit):
    names = list(commands(folder, folder, folder))
    print(f"{'N':>9} {'D':>5}{'matrix':>11}" + "".join(f"{name:>22}" for name in names))
    rows = folder / "rows.npy"
    for dim in dims:
        model = small_model(folder, dim)
        for count in counts:
            write_rows(rows, count, dim, seed=0)
            line = f"{count:>9,} {dim:>5}{4 * count * dim / 1e6:>8,.0f} MB"
            print(line, end="", flush=True)
            for command in commands(rows, model, folder).values():
                print(shown(measure(limit, *command), limit), end="", flush=True)
            print()


def sparse(folder, count=10_000_000, dim=1024):
    rows = folder / "sparse.npy"
    write_sparse(rows, count, dim)
    seconds, peak = measure(float("inf"), *commands(rows, small_model(folder, dim), folder)["compress"])
    pace = 4 * count * dim / seconds / 1e9
    print(f"compress {count:,} x {dim}: {seconds:.1f} s, {pace:.2f} GB/s, peak resident memory {peak / 1e6:,.0f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=COUNTS, help="values of N")
    parser.add_argument("--dims", type=int, nargs="+", default=DIMS, help="values of D")
    parser.add_argument("--limit", type=float, default=120, help="seconds for a command")
    parser.add_argument("--sparse", action="store_true", help="the file of 41 GB instead")
    parser.add_argument("--folder", type=Path, help="where to put files, up to 1.7 GB (--sparse: 2.6 GB)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        if args.sparse:
            sparse(Path(folder))
        else:
            grid(Path(folder), args.rows, args.dims, args.limit)


if __name__ == "__main__":
    main()
