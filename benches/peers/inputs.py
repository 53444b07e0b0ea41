"""Synthetic rows, made from a stated seed and kept in a folder, and models of them.

`rows` are normal with a power law for a spectrum, standard deviation j^-0.5 along the j-th of D random directions, about a mean that
holds a fifth of their energy, as embeddings have one. Of such rows no map keeps more than a spectral one does, so training gets `topics`.
No row is zero.
"""

import json
import subprocess

import numpy as np

SEED = 20261124
BLOCK = 8192
MEAN_SHARE = 0.2
ROWS_OF_TOPIC, AXES_OF_TOPIC = 100, 24
# Of the lengths of what rows are made of, beside that of the middle of their topic.
TOPIC_SPREAD, BACKGROUND = 0.6, 0.3


def rows(folder, count, dim, unit=False):
    """A `.npy` of float32 rows, of unit length if wanted; made unless it is there."""
    path = folder / f"{'unit' if unit else 'rows'}_{count}x{dim}_{SEED}.npy"
    if path.exists():
        return path
    rng = np.random.default_rng(SEED)
    deviations = power_law(dim)
    turn = directions(rng, dim, dim) * deviations[:, None]
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


def topics(folder, count, dim):
    """Rows about the middles of topics, in each of which they vary along other directions, and all along some."""
    path = folder / f"topics_{count}x{dim}_{SEED}.npy"
    if path.exists():
        return path
    rng = np.random.default_rng(SEED)
    deviations = power_law(dim)
    out = rng.standard_normal((count, dim), dtype=np.float32) @ (directions(rng, dim, dim) * deviations[:, None])
    out *= BACKGROUND / np.sqrt(np.square(deviations).sum())
    topic = rng.integers(max(1, count // ROWS_OF_TOPIC), size=count)
    for members in (np.flatnonzero(topic == number) for number in range(topic.max() + 1)):
        place = rng.standard_normal((len(members), AXES_OF_TOPIC), dtype=np.float32) * power_law(AXES_OF_TOPIC)
        out[members] += directions(rng, 1, dim) + TOPIC_SPREAD * place @ directions(rng, AXES_OF_TOPIC, dim)
    np.save(path, out)
    return path


def power_law(count):
    return np.arange(1, count + 1, dtype=np.float32) ** -0.5


def directions(rng, count, dim):
    """Rows of about unit length."""
    return rng.standard_normal((count, dim), dtype=np.float32) / np.float32(dim**0.5)


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


def split_model(folder, train, data):
    """A model file that says which rows of a file are for training and which for validation."""
    path = folder / f"split_{data.stem}.npz"
    if not path.exists():
        flags = ["--max-items", "0", "--dim-out", "2", "--hidden", "0", "--epochs", "0", "--device", "cpu"]
        subprocess.run([train, "--input", data, "--model", path, *flags], check=True, stderr=subprocess.DEVNULL)
    return path


def mean(data):
    """Mean of the first rows of a file."""
    return np.load(data, mmap_mode="r")[:BLOCK].mean(axis=0, dtype=np.float64).astype(np.float32)
