"""PyTorch's side of the comparison."""

import time

import numpy as np
import torch

from protocol import Timed, serve
from train import Corpus

QUERY_BLOCK = 500


def compress(source, model, target):
    with np.load(model) as arrays:
        weight, bias = torch.from_numpy(arrays["weight"]), torch.from_numpy(arrays["bias"])

    @torch.inference_mode()
    def run():
        # Copy-on-write: torch has no read-only tensors.
        rows = torch.from_numpy(np.load(source, mmap_mode="c"))
        out = np.lib.format.open_memmap(target, "w+", np.float32, (len(rows), len(weight)))
        # In one call: blocks of no size were faster.
        torch.addmm(bias, rows, weight.T, out=torch.from_numpy(out))

    return run


def neighbours(source, queries, k):
    rows = torch.from_numpy(np.load(source))
    queries, k = int(queries), int(k)

    @torch.inference_mode()
    def run():
        scores = torch.empty(QUERY_BLOCK, len(rows))
        found = []
        for block in rows[:queries].split(QUERY_BLOCK):
            torch.mm(block, rows.T, out=scores[: len(block)])
            found.append(scores[: len(block)].topk(k + 1, dim=1).indices)
        return torch.cat(found).numpy()

    return run


def steps(source, split, dim_out, hidden, epochs, device, dtype):
    corpus = Corpus(source, split, int(dim_out), device)
    epochs = int(epochs)
    # Of all runs: by what is drawn at random alone, that of one differs by several per cent.
    last_losses = []

    def run():
        training = corpus.training(int(hidden), epochs, getattr(torch, dtype))
        training.epoch()
        start = time.perf_counter()
        losses = [training.epoch() for _ in range(epochs - 1)]
        seconds = time.perf_counter() - start
        last_losses.append(losses[-1])
        return Timed(seconds / (training.steps * (epochs - 1)), [np.mean(last_losses)])

    return run


if __name__ == "__main__":
    serve({"compress": compress, "neighbours": neighbours, "steps": steps})
