"""Whether contestants did the same work."""

import tempfile
from pathlib import Path

import numpy as np

from rounds import CONTROL, OURS

# Differences of float32 sums in another order, relative to the largest value.
LARGEST_DIFFERENCE = 1e-4
# Neighbours beside which others are as near as float32 tells.
LEAST_SHARE = 0.999
# Of the variance that scikit-learn's randomised solver finds.
LARGEST_LOSS = 1e-3
# Axes that variance is compared on: all of them hold all of it.
AXES = 64


def same_files(outputs):
    """The compressed files, by name, hold the same numbers as ours."""

    def check(_):
        ours = np.load(outputs[OURS], mmap_mode="r")
        scale = np.abs(ours).max()
        notes = {}
        for name, path in outputs.items():
            difference = float(np.abs(np.load(path, mmap_mode="r") - ours).max() / scale)
            require(difference <= LARGEST_DIFFERENCE, name, f"differs by {difference:.1e}")
            notes[name] = f"difference {difference:.0e}"
        return notes

    return check


def same_neighbours(contestants):
    """Peers found the neighbours that ours did, and the query itself, which they are asked for one more for."""
    found = saved(contestants)
    ours = found[OURS]
    notes = {}
    for name, ids in found.items():
        sets = [set(row) - {query} for query, row in enumerate(ids.tolist())]
        share = float(np.mean([len(row & set(own)) / len(own) for row, own in zip(sets, ours.tolist(), strict=True)]))
        require(share >= LEAST_SHARE, name, f"found {share:.4f} of the neighbours")
        notes[name] = f"same {share:.5f}"
    return notes


def as_much_variance(source):
    """Axes are orthonormal and ours hold as much variance as those of scikit-learn's randomised solver."""

    def check(contestants):
        rows = np.load(source).astype(np.float64)
        rows -= rows.mean(axis=0)
        total = np.square(rows).sum()
        shares = {}
        for name, axes in saved(contestants).items():
            axes = axes[:AXES].astype(np.float64)
            skew = np.abs(axes @ axes.T - np.eye(len(axes))).max()
            require(skew < 1e-3, name, f"has axes that are not orthonormal by {skew:.1e}")
            shares[name] = np.square(rows @ axes.T).sum() / total
        randomised = shares["sklearn randomized"]
        for name in (OURS, CONTROL):
            loss = 1 - shares[name] / randomised
            require(loss <= LARGEST_LOSS, name, f"holds {loss:.1e} less variance than scikit-learn's randomised solver")
        return {name: f"variance {share:.6f}" for name, share in shares.items()}

    return check


def saved(contestants):
    """What the last run of each found."""
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for contestant in contestants:
            path = Path(folder) / "found.npy"
            contestant.save(path)
            found[contestant.name] = np.load(path)
        return found


def require(holds, name, problem):
    if not holds:
        raise SystemExit(f"no comparison: {name} {problem}")
