"""What is compared in rows a, b and c."""

import sys
from pathlib import Path

from checks import as_much_variance, same_files, same_neighbours
from inputs import linear_model, rows
from protocol import Program, SyncedWorker, Worker
from rounds import CONTROL, OURS, Group

HERE = Path(__file__).resolve().parent
DIM_OUT = 64
QUERIES, K = 2000, 50


def command(library, *job):
    return [sys.executable, HERE / f"peer_{library}.py", *job]


def peer(library, name, *job):
    return Worker(name, command(library, *job))


def compress(tools, folder, sizes):
    """Row a: a file to a file. Ours is a process from start to exit; peers have their libraries imported already."""
    for count, dim in sizes:
        source = rows(folder, count, dim)
        model = linear_model(folder, tools.train, source, DIM_OUT)
        libraries = ["numpy", "torch", "faiss", "sklearn"]
        # For information: what they take where nobody waits for the disk, as ours does.
        unsynced = {"numpy": "numpy, not synced", "torch": "torch, not synced"}
        names = [OURS, CONTROL, *libraries, *unsynced.values()]
        outputs = {name: folder / f"output_{name.replace(', ', '_').replace(' ', '_')}.npy" for name in names}
        flags = ["--device", "cpu", "--model", model, "--input", source, "--output"]
        ours = [Program(name, [tools.compress, *flags, outputs[name]]) for name in (OURS, CONTROL)]
        job = ["compress", source, model]
        peers = [SyncedWorker(name, command(name, *job, outputs[name]), outputs[name]) for name in libraries]
        peers += [peer(library, name, *job, outputs[name]) for library, name in unsynced.items()]
        yield Group(f"a. compress {count:,} x {dim} -> {DIM_OUT}", ours + peers, same_files(outputs))


def neighbours(tools, folder, sizes):
    """Row b: exact neighbours of the first rows. Peers are asked for one more, for they find the query too."""
    for count, dim in sizes:
        source = rows(folder, count, dim, unit=True)
        job = ["neighbours", source, str(QUERIES), str(K)]
        ours = [Worker(name, [tools.contestant, *job]) for name in (OURS, CONTROL)]
        peers = [
            peer("faiss", "faiss IndexFlatIP", *job),
            peer("torch", "torch mm + topk", *job),
            # Among rows of unit length it ranks as cosine does, and is several times as fast.
            peer("sklearn", "sklearn brute", *job, "euclidean"),
        ]
        yield Group(f"b. {QUERIES:,} queries, top {K}, {count:,} x {dim}", ours + peers, same_neighbours)


def spectrum(tools, folder, sizes):
    """Row c: one centred fit of the leading axes."""
    for count, dim, axes in sizes:
        source = rows(folder, count, dim)
        job = ["spectrum", source, str(axes)]
        ours = [Worker(name, [tools.contestant, *job]) for name in (OURS, CONTROL)]
        solvers = ["full", "randomized"] + (["covariance_eigh"] if axes == dim else [])
        peers = [peer("sklearn", f"sklearn {solver}", *job, solver) for solver in solvers]
        peers.append(peer("faiss", "faiss PCAMatrix", *job))
        # Up to a minute each, and what takes that long needs no median.
        once = ("faiss PCAMatrix", "sklearn full") if axes < dim else ()
        yield Group(f"c. spectrum {count:,} x {dim}, {axes} axes", ours + peers, as_much_variance(source), once)


ROWS = {"a": compress, "b": neighbours, "c": spectrum}
SIZES = {
    "a": [(100_000, 4096), (1_000_000, 384)],
    "b": [(100_000, 384), (50_000, 4096), (100_000, 64)],
    "c": [(20_000, 384, 384), (5_000, 4096, 128)],
}
QUICK_SIZES = {"a": [(4_000, 256)], "b": [(4_000, 64)], "c": [(2_000, 128, 128), (2_500, 1100, 16)]}
