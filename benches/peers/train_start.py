"""What training in PyTorch starts from and is judged by: exact neighbours, recall, the best spectral map."""

import torch
import torch.nn.functional as F

K, MAX_QUERIES, SPREAD_ROWS = 50, 2000, 512
GAMMAS, METRICS = (0.0, 0.25, 0.5), ("cosine", "dot", "l2")
QUERY_BLOCK = 500
# Up to this width a full decomposition is the faster one.
FULL_WIDTH, OVERSAMPLING, POWER_ITERATIONS = 1024, 32, 4


def scores(a, b, metric):
    """Similarities of all rows of a to all of b; for L2, what ranks as distances do."""
    if metric == "cosine":
        return F.normalize(a) @ F.normalize(b).T
    if metric == "dot":
        return a @ b.T
    return torch.addmm(b.square().sum(1).div(-2), a, b.T)


@torch.inference_mode()
def neighbours(rows, queries, database, k, metric):
    """Scores and ids of the k best for each query, which are rows of the database but not their own neighbours."""
    if metric == "cosine":
        rows, database, metric = F.normalize(rows), F.normalize(database), "dot"
    best, ids = [], []
    for block, own in zip(rows.split(QUERY_BLOCK), queries.split(QUERY_BLOCK), strict=True):
        found = scores(block, database, metric).scatter_(1, own[:, None], -torch.inf).topk(k)
        best.append(found.values)
        ids.append(found.indices)
    return torch.cat(best), torch.cat(ids)


def spread(rows, metric):
    """Mean over a sample of the standard deviation of the top-k similarities."""
    sample = torch.randperm(len(rows), device=rows.device)[:SPREAD_ROWS]
    return neighbours(rows[sample], sample, rows, K, metric)[0].std(1).mean()


class Judge:
    """Validation: queries after the training rows, among all known rows."""

    def __init__(self, known, first):
        self.queries = torch.arange(first, min(len(known), first + MAX_QUERIES), device=known.device)
        ids = neighbours(known[self.queries], self.queries, known, K, "dot")[1]
        none = torch.zeros(len(self.queries), len(known), dtype=torch.bool, device=known.device)
        self.true = {k: none.scatter(1, ids[:, :k], True) for k in (K, 10)}

    def recall(self, encoded, metric):
        """Recall at K and at 10."""
        ids = neighbours(encoded[self.queries], self.queries, encoded, K, metric)[1]
        return [hits.gather(1, ids[:, :k]).float().mean().item() for k, hits in self.true.items()]


@torch.inference_mode()
def spectral_map(train, known, judge, dim_out):
    """The best of 18 spectral maps on validation, its metric, and its recall."""
    best = None
    for rows in (train, train - train.mean(0)):
        axes, energies = leading_axes(rows, dim_out)
        projected = known @ axes
        for gamma in GAMMAS:
            scale = energies ** (-gamma / 2)
            for metric in METRICS:
                recall = judge.recall(projected * scale, metric)
                if best is None or recall[0] > best[2][0]:
                    best = ((axes * scale).T, metric, recall)
    weight, metric, recall = best
    return weight.clone(), metric, recall


def leading_axes(rows, count):
    """Axes as columns, strongest first, and the mean squared projection on each."""
    if rows.shape[1] > FULL_WIDTH:
        _, values, axes = torch.svd_lowrank(rows, count + OVERSAMPLING, POWER_ITERATIONS)
        return axes[:, :count], values[:count].square() / len(rows)
    values, axes = torch.linalg.eigh(rows.T @ rows / len(rows))
    return axes.flip(1)[:, :count], values.flip(0)[:count]
