"""Times in PyTorch on CUDA what `benches/ops.rs` times of ours: products and top-k, in float32 without TF32.

    python benches/gpu_torch.py

A line for each: median of 5 samples of at least 50 ms, and the rate.
"""

import statistics
import time

import torch

SAMPLE, SAMPLES = 0.05, 5

# Layout, m, n, k: as the bench cases of `matmul`.
PRODUCTS = [
    ("NT", 1024, 1024, 1024),
    ("NT", 512, 4096, 384),
    ("NT", 512, 4096, 4096),
    ("NT", 512, 4096, 64),
    ("NT", 4096, 32, 384),
    ("NT", 4096, 64, 4096),
    ("NN", 512, 32, 4096),
    ("TN", 32, 384, 4096),
    ("TN", 64, 4096, 512),
    ("NT", 4096, 4096, 4096),
]
# Rows, columns, k: as those of `top_k`.
SELECTIONS = [(64, 100_000, 10), (64, 100_000, 100), (64, 100_000, 1000), (512, 4096, 128)]
# Queries, rows, dimensions, k: as those of `nearest`.
SEARCHES = [(1024, 16_384, 64, 50), (1024, 16_384, 128, 50)]


def median(work):
    """Median seconds of one repetition."""

    def sample(repetitions):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(repetitions):
            work()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / repetitions

    sample(3)
    repetitions = 1
    while sample(repetitions) * repetitions < SAMPLE:
        repetitions *= 2
    return statistics.median(sample(repetitions) for _ in range(SAMPLES))


def report(name, seconds, flops=0):
    rate = f"{flops / seconds / 1e9:9.1f} GFLOP/s" if flops else ""
    print(f"{name:<48}{seconds * 1e6:11.1f} us{rate}", flush=True)


def main():
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    torch.manual_seed(0)
    print(torch.cuda.get_device_name(), "torch", torch.__version__)

    def noise(*shape):
        return torch.rand(*shape, device="cuda") - 0.5

    for layout, m, n, k in PRODUCTS:
        a = noise(k, m).T if layout == "TN" else noise(m, k)
        b = noise(n, k).T if layout == "NT" else noise(k, n)
        c = torch.empty(m, n, device="cuda")
        report(f"matmul {layout} {m}x{n}x{k}", median(lambda: torch.matmul(a, b, out=c)), 2 * m * n * k)
    for rows, cols, k in SELECTIONS:
        x = torch.randn(rows, cols, device="cuda")
        report(f"topk {rows}x{cols} k={k}", median(lambda: torch.topk(x, k)))
    for queries, rows, dim, k in SEARCHES:
        x, y = torch.randn(queries, dim, device="cuda"), torch.randn(rows, dim, device="cuda")
        report(f"matmul + topk {queries}x{rows}x{dim} k={k}", median(lambda: torch.topk(x @ y.T, k)), 2 * queries * rows * dim)


if __name__ == "__main__":
    main()
