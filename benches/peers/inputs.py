"""Synthetic rows, made from a stated seed and kept in a folder, and the models that compress them.

Rows are normal with a power law for a spectrum, standard deviation j^-0.5 along the j-th of D random directions, about a mean that
holds a fifth of their energy, as embeddings have one. No row is zero.
"""

import json
import subprocess

import numpy as np

SEED = 20261124
BLOCK = 8192
MEAN_SHARE = 0.2


def rows(folder, count, dim, unit=False):
    """A `.npy` of float32 rows, of unit length if wanted; made unless it is there."""
    path = folder / f"{'unit' if unit else 'rows'}_{count}x{dim}_{SEED}.npy"
    if path.exists():
        return path
    rng = np.random.default_rng(SEED)
    deviations = np.arange(1, dim + 1, dtype=np.float32) ** -0.5
    turn = rng.standard_normal((dim, dim), dtype=np.float32) * (deviations[:, None] / np.float32(dim**0.5))
    mean = rng.standard_normal(dim, dtype=np.float32)
    energy = MEAN_SHARE / (1 - MEAN_SHARE) * np.square(deviations).sum()
    mean *= np.sqrt(energy) / np.linalg.norm(mean)
    # Under another name until it is whole.
    partial = path.with_suffix(".partial")
    out = np.lib.format.open_memmap(partial, "w+", np.float32, (count, dim))
    for first in range(0, count, BLOCK):
        size = min(BLOCK, count - first)
        block = rng.standard_normal((size, dim), dtype=np.float32) @ turn + mean
        if unit:
            block /= np.linalg.norm(block, axis=1, keepdims=True)
        out[first : first + size] = block
    out.flush()
    del out
    partial.rename(path)
    return path


def linear_model(folder, train, data, dim_out):
    """A model file for z = W x + b: W from `train` without steps, b such that z is 0 at the mean of the rows, as PCA has it."""
    path = folder / f"model_{data.stem}_{dim_out}.npz"
    if path.exists():
        return path
    flags = ["--max-items", "2000", "--dim-out", str(dim_out), "--hidden", "0", "--epochs", "0", "--metric", "dot"]
    command = [train, "--input", data, "--model", path, "--device", "cpu", *flags]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    with np.load(path) as arrays:
        weight, meta = arrays["weight"], json.loads(arrays["meta"].tobytes())
    # Compared by inner product, a model leaves z as it is.
    meta["student_metric"] = "dot"
    bias = -weight @ mean(data)
    np.savez(path, weight=weight, bias=bias, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8))
    return path


def mean(data):
    """Mean of the first rows of a file."""
    return np.load(data, mmap_mode="r")[:BLOCK].mean(axis=0, dtype=np.float64).astype(np.float32)
