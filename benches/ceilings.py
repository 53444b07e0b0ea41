"""Three ceilings of recall: free vectors, a map that has seen the queries, a map that has not.

    pip install numpy torch
    cargo build --release && python benches/ceilings.py FILE.npy --rows 5000 --dim 32

All are measured on the test rows of the standard split, searched among all rows by cosine, k = 50.
1. Free vectors: one of d' numbers for each row, all rows being queries and database, by the loss that maps are trained with. About
   what geometry allows for 50 neighbours in d' dimensions; a map can be better at 10.
2. A map that was trained on all rows, the test rows too. What the family of maps allows.
3. The map of `train`. What it has to guess is the rest.
"""
import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch

K, NEGATIVES, BATCH, HARD = 50, 64, 512, 10.0
BINARY = Path(__file__).resolve().parent.parent / "target/release/train"


def train(rows, dim, folder, name, flags):
    np.save(folder / f"{name}.npy", rows)
    model = folder / f"{name}.npz"
    command = [BINARY, "--input", folder / f"{name}.npy", "--max-items", "0", "--dim-out", str(dim), "--model", model, *flags]
    subprocess.run(command, check=True)
    arrays = np.load(model)
    return arrays, json.loads(arrays["meta"].tobytes())


def encode(model, x):
    arrays, meta = model
    z = x @ arrays["weight"].T + arrays["bias"]
    if meta["hidden"]:
        h = x @ arrays["hidden_weight"].T + arrays["hidden_bias"]
        z = z + (h / 2 * (1 + np.tanh(0.7978845608 * (h + 0.044715 * h**3)))) @ arrays["hidden_output"].T
    return z if meta["student_metric"] != "cosine" else z / np.linalg.norm(z, axis=1, keepdims=True)


def scores(z, queries, metric):
    return z[queries] @ z.T - ((z * z).sum(1) / 2 if metric == "l2" else 0)


def without_self(scores, queries):
    return scores.scatter(1, queries[:, None], -torch.inf)


def recall(x, z, queries, metric, k):
    truth = without_self(x[queries] @ x.T, queries).topk(k, 1).indices
    found = without_self(scores(z, queries, metric), queries).topk(k, 1).indices
    hit = torch.zeros(len(queries), len(x), dtype=torch.bool).scatter(1, truth, True)
    return hit.gather(1, found).float().mean().item()


def loss(teacher, student, queries, tau, log_beta):
    """The listwise divergence and the hinge over hard negatives, as in `src/objective.rs`."""
    teacher, student = without_self(teacher / tau, queries), without_self(student * log_beta.exp(), queries)
    kl = (teacher.softmax(1) * (teacher.log_softmax(1) - student.log_softmax(1)).nan_to_num()).sum(1).mean()
    positives = teacher.topk(K, 1).indices
    ranking = student.detach().topk(K + NEGATIVES, 1).indices
    is_positive = torch.zeros_like(teacher, dtype=torch.bool).scatter(1, positives, True).gather(1, ranking)
    order = is_positive.to(torch.int8).argsort(dim=1, stable=True)[:, :NEGATIVES]
    negatives = ranking.gather(1, order)
    gap = [s.gather(1, positives)[:, :, None] - s.gather(1, negatives)[:, None] for s in (teacher, student)]
    return kl + HARD * (gap[0] - gap[1]).clamp_min(0).mean()


def free_vectors(x, z, metric, tau, steps):
    spread = without_self(scores(z, torch.arange(500), metric), torch.arange(500)).topk(K, 1).values.std(1).mean()
    z = z.clone().requires_grad_()
    log_beta = (-spread.log()).clone().requires_grad_()
    groups = [{"params": [z], "lr": 0.03 * z.detach().square().mean().sqrt().item()}, {"params": [log_beta], "lr": 0.01}]
    adam = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, [group["lr"] for group in groups], steps, pct_start=0.1)
    order = torch.cat([torch.randperm(len(x)) for _ in range(steps * BATCH // len(x) + 1)])
    for step in range(steps):
        queries = order[step * BATCH :][:BATCH]
        adam.zero_grad()
        loss(x[queries] @ x.T, scores(z, queries, metric), queries, tau, log_beta).backward()
        adam.step()
        schedule.step()
    return z.detach()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input")
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--steps", type=int, default=1000, help="of the free vectors")
    args, flags = parser.parse_known_args()
    torch.manual_seed(0)
    rows = np.load(args.input, mmap_mode="r")[: args.rows].astype(np.float32)
    x = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    with tempfile.TemporaryDirectory() as folder:
        model = train(rows, args.dim, Path(folder), "held_out", flags)
        # The split depends on the number of rows alone: all rows take the places of those for training, and copies the rest.
        count = len(rows) * 10 // 8
        arrays, meta = train(np.resize(rows, (count, rows.shape[1])), args.dim, Path(folder), "places", [*flags, "--epochs", "0"])
        test = model[1]["test_indices"]
        arranged = np.empty((count, rows.shape[1]), np.float32)
        arranged[meta["train_indices"]] = rows
        rest = sorted(meta["val_indices"] + meta["test_indices"])
        arranged[rest] = rows[np.resize(test, len(rest))]
        seen = train(arranged, args.dim, Path(folder), "seen", flags)
    queries, x = torch.tensor(test), torch.from_numpy(x)
    metric = model[1]["student_metric"]
    encoded = [torch.from_numpy(encode(m, x.numpy()).astype(np.float32)) for m in (model, seen)]
    free = free_vectors(x, encoded[1], metric, model[1]["teacher_temperature"], args.steps)
    for name, z, metric in [("free vectors", free, metric), ("map, test rows seen", encoded[1], seen[1]["student_metric"]), ("map", encoded[0], metric)]:
        print(f"{name:20} recall@10 {recall(x, z, queries, metric, 10):.4f}  recall@50 {recall(x, z, queries, metric, K):.4f}", flush=True)


if __name__ == "__main__":
    main()
