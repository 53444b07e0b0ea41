"""The training of `src/train.rs` in PyTorch, eager, as one writes it who knows PyTorch well.

    python benches/peers/train.py ROWS.npy MODEL.npz --dim-out 32 --hidden 1024 --device cuda

The same rows (the split is read from a model of the same file), batches, candidates, moved anchors, losses, optimiser, schedule, start and
validation, for a teacher that compares by cosine. Other random numbers. It works on rows as they are, where ours takes wide ones into a
basis of their main axes. It keeps the teacher's scores where ours does. What eager PyTorch does faster in another form has that form:
scores and rows are blended by `embedding_bag`, hard negatives are the best of what is left without the positives, AdamW is the fused one.
It is in float32; the time of a step with a hidden layer is also taken with products in bfloat16, by autocast.

It prints a JSON line for every epoch, as `train --metrics-file` does; seconds count from the end of the imports.
"""

import argparse
import json
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from train_start import Judge, K, neighbours, scores, spectral_map, spread

STARTED = time.perf_counter()

BATCH, RANDOM_ROWS, MAX_TABLE_ROWS = 512, 3584, 4096
RATE, HIDDEN_RATE, WARM_UP, FIRST_RATE, LAST_RATE = 0.01, 10.0, 0.1, 1 / 25, 1e-4
NEGATIVES, HARD_WEIGHT = 64, 10.0
NOISE, NOISE_NEIGHBOURS, MAX_STRETCH = 0.8, 10, 10.0
# Finite, so that 0 times it is 0.
MASKED = -1e30


def rounded(device, dtype):
    """Where products take factors of this type."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


class Net(nn.Module):
    """z = W x + b + C gelu(A x + a), where C starts at 0."""

    def __init__(self, weight, metric, hidden, rows, dtype):
        super().__init__()
        self.dtype = dtype
        dim_out, dim = weight.shape
        self.linear = nn.Linear(dim, dim_out, device=rows.device)
        self.linear.weight.data.copy_(weight)
        self.linear.bias.data.zero_()
        # Distances do not know it.
        self.linear.bias.requires_grad_(metric != "l2")
        self.hidden = None
        if hidden:
            self.hidden = nn.Linear(dim, hidden, device=rows.device)
            self.output = nn.Linear(hidden, dim_out, bias=False, device=rows.device)
            mean = rows.mean(0)
            variance = (1 - mean.square().sum()).clamp_min(1e-6)
            self.hidden.weight.data.normal_().div_(variance.sqrt())
            self.hidden.bias.data.copy_(-self.hidden.weight.data @ mean)
            self.output.weight.data.zero_()

    def forward(self, x):
        z = self.linear(x)
        if self.hidden is None:
            return z
        with rounded(x.device, self.dtype):
            units = self.hidden(x)
        return z + self.output(F.gelu(units.float(), approximate="tanh"))

    def groups(self):
        """Parameters with the factors of their rates: the size of the weights at the start."""
        size = self.linear.weight.detach().square().mean().sqrt().item()
        groups = [([p for p in self.linear.parameters() if p.requires_grad], size)]
        if self.hidden is not None:
            hidden_size = self.hidden.weight.detach().square().mean().sqrt().item()
            groups += [([self.hidden.weight], HIDDEN_RATE * hidden_size), ([self.hidden.bias], 1.0), ([self.output.weight], size)]
        return groups


class Noise:
    """Moves anchors along the difference of two neighbours elsewhere."""

    def __init__(self, rows):
        ids = torch.arange(len(rows), device=rows.device)
        # Of rows of unit length, the nearest are those with the largest inner products.
        products, self.near = neighbours(rows, ids, rows, NOISE_NEIGHBOURS, "dot")
        self.distances = (2 - 2 * products).clamp_min(0).sqrt()

    def blends(self, anchors):
        """Rows and their weights, whose sums are the moved anchors but for their lengths."""
        count, device = len(anchors), anchors.device
        source = torch.randint(len(self.near), (count,), device=device)
        own, other = torch.randint(NOISE_NEIGHBOURS, (2, count), device=device)
        distance = self.distances[source, other]
        stretch = (self.distances[anchors, own] / distance).nan_to_num().clamp_max(MAX_STRETCH)
        step = NOISE * torch.rand(count, device=device) * stretch * (distance > 0)
        parts = torch.stack([anchors, source, self.near[source, other]], 1)
        return parts, torch.stack([torch.ones_like(step), -step, step], 1)


class Training:
    """A run of so many epochs, on training rows of unit length and from a start."""

    def __init__(self, rows, weight, metric, hidden, epochs, noise, dtype):
        self.rows, self.metric, self.noise, self.dtype = rows, metric, noise, dtype
        self.net = Net(weight, metric, hidden, rows, dtype)
        self.tau = spread(rows, "cosine")
        with torch.inference_mode():
            student_tau = spread(rows @ weight.T, metric)
        self.log_beta = nn.Parameter(-student_tau.log())
        self.batch = min(BATCH, len(rows))
        self.steps = -(-len(rows) // self.batch)
        self.candidates = min(len(rows), self.batch + RANDOM_ROWS)
        self.positives = max(1, round(K * self.candidates / len(rows)))
        self.full = self.candidates == len(rows)
        self.table = rows @ rows.T if self.full and len(rows) <= MAX_TABLE_ROWS else None
        groups = [{"params": p, "lr": RATE * scale} for p, scale in [*self.net.groups(), ([self.log_beta], 1.0)]]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.0, fused=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            [group["lr"] for group in groups],
            epochs * self.steps,
            pct_start=WARM_UP,
            div_factor=1 / FIRST_RATE,
            final_div_factor=FIRST_RATE / LAST_RATE,
            cycle_momentum=False,
        )

    def epoch(self):
        """Runs an epoch and returns its mean loss."""
        order = torch.randperm(len(self.rows), device=self.rows.device)
        anchors = torch.cat([order, order[: self.steps * self.batch - len(order)]])
        parts, weights = self.noise.blends(anchors)
        losses = []
        for batch in zip(*(t.split(self.batch) for t in (anchors, parts, weights)), strict=True):
            loss = self.loss(*batch)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            losses.append(loss.detach())
        return torch.stack(losses).mean().item()

    def loss(self, anchors, parts, weights):
        anchor_rows, candidate_rows, teacher, own = self.compared(anchors, parts, weights)
        student = scores(self.net(anchor_rows), self.net(candidate_rows), self.metric) * self.log_beta.exp()
        # An anchor is no candidate of its own.
        student.scatter_(1, own, MASKED)
        divergence = F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True)
        with torch.no_grad():
            positives = teacher.topk(self.positives, sorted=False).indices
            negatives = student.scatter(1, positives, MASKED).topk(NEGATIVES, sorted=False).indices
            columns = torch.cat([positives, negatives], 1)
        lead = teacher.gather(1, columns) - student.gather(1, columns)
        lead_p, lead_n = lead.split([self.positives, NEGATIVES], 1)
        return divergence + HARD_WEIGHT * (lead_p[:, :, None] - lead_n[:, None]).relu().mean()

    @torch.no_grad()
    def compared(self, anchors, parts, weights):
        """Moved anchors, candidates, the teacher's logits, and each anchor's own column `[batch, 1]`."""

        def blend(source):
            return F.embedding_bag(parts, source, per_sample_weights=weights, mode="sum")

        anchor_rows = blend(self.rows)
        length = anchor_rows.norm(dim=1, keepdim=True)
        anchor_rows /= length
        if self.full:
            candidate_rows, own = self.rows, anchors[:, None]
        else:
            # The batch comes first, then other rows at random.
            keys = torch.rand(len(self.rows), device=anchors.device).index_fill_(0, anchors, 2.0)
            others = keys.topk(self.candidates - self.batch, largest=False, sorted=False).indices
            candidate_rows = self.rows[torch.cat([anchors, others])]
            own = torch.arange(self.batch, device=anchors.device)[:, None]
        if self.table is not None:
            teacher = blend(self.table).div_(length * self.tau)
        else:
            with rounded(anchor_rows.device, self.dtype):
                teacher = ((anchor_rows / self.tau) @ candidate_rows.T).float()
        return anchor_rows, candidate_rows, teacher.scatter_(1, own, MASKED), own


class Corpus:
    """Rows of a file as training takes them, their validation, and where training starts."""

    def __init__(self, source, split, dim_out, device):
        with np.load(split) as arrays:
            meta = json.loads(arrays["meta"].tobytes())
        train, val = meta["train_indices"], meta["val_indices"]
        known = torch.from_numpy(np.load(source, mmap_mode="r")[np.array(train + val)]).to(device).float()
        self.known = F.normalize(known)
        self.train = self.known[: len(train)]
        self.judge = Judge(self.known, len(train))
        self.weight, self.metric, self.start = spectral_map(self.train, self.known, self.judge, dim_out)

    def training(self, hidden, epochs, dtype=torch.float32):
        return Training(self.train, self.weight, self.metric, hidden, epochs, Noise(self.train), dtype)


def report(file, epoch, loss, recall):
    line = {"epoch": epoch, "loss": loss, "val_recall@k": recall[0], "val_recall@10": recall[1]}
    print(json.dumps({**line, "seconds": time.perf_counter() - STARTED}), file=file, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help=".npy with rows")
    parser.add_argument("split", help="model file of the same rows")
    parser.add_argument("--dim-out", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--lines", type=argparse.FileType("w"), default="-", metavar="FILE", help="where the lines go")
    args = parser.parse_args()
    torch.manual_seed(0)
    corpus = Corpus(args.source, args.split, args.dim_out, args.device)
    report(args.lines, 0, None, corpus.start)
    training = corpus.training(args.hidden, args.epochs)
    for epoch in range(1, args.epochs + 1):
        loss = training.epoch()
        with torch.inference_mode():
            report(args.lines, epoch, loss, corpus.judge.recall(training.net(corpus.known), training.metric))


if __name__ == "__main__":
    main()
