"""scikit-learn's side of the comparison."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from protocol import serve


def compress(source, model, target):
    with np.load(model) as arrays:
        weight, bias = arrays["weight"], arrays["bias"]
    pca = PCA(n_components=len(weight))
    pca.components_, pca.n_features_in_, pca.whiten = weight, weight.shape[1], False
    # transform subtracts W mean: a point that W takes to -b.
    pca.mean_ = -np.linalg.pinv(weight) @ bias

    def run():
        np.save(target, pca.transform(np.load(source, mmap_mode="r")))

    return run


def neighbours(source, queries, k, metric):
    rows = np.load(source)
    queries, k = int(queries), int(k)
    index = NearestNeighbors(n_neighbors=k + 1, algorithm="brute", metric=metric).fit(rows)
    return lambda: index.kneighbors(rows[:queries], return_distance=False)


def spectrum(source, count, solver):
    rows = np.load(source)
    return lambda: PCA(n_components=int(count), svd_solver=solver, random_state=0).fit(rows).components_


if __name__ == "__main__":
    serve({"compress": compress, "neighbours": neighbours, "spectrum": spectrum})
