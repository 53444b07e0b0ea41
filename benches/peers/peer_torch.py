"""PyTorch's side of the comparison."""

import numpy as np
import torch

from protocol import serve

COMPRESS_BLOCK = 8192
QUERY_BLOCK = 500


def compress(source, model, target):
    with np.load(model) as arrays:
        weight, bias = torch.from_numpy(arrays["weight"]), torch.from_numpy(arrays["bias"])

    @torch.inference_mode()
    def run():
        # Copy-on-write: torch has no read-only tensors.
        rows = torch.from_numpy(np.load(source, mmap_mode="c"))
        out = np.lib.format.open_memmap(target, "w+", np.float32, (len(rows), len(weight)))
        encoded = torch.from_numpy(out)
        for first in range(0, len(rows), COMPRESS_BLOCK):
            block = rows[first : first + COMPRESS_BLOCK]
            torch.addmm(bias, block, weight.T, out=encoded[first : first + COMPRESS_BLOCK])

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


if __name__ == "__main__":
    serve({"compress": compress, "neighbours": neighbours})
