"""faiss's side of the comparison."""

import faiss
import numpy as np

from protocol import serve


def compress(source, model, target):
    with np.load(model) as arrays:
        weight, bias = arrays["weight"], arrays["bias"]
    dim_out, dim_in = weight.shape
    pca = faiss.PCAMatrix(dim_in, dim_out)
    faiss.copy_array_to_vector(weight.ravel(), pca.A)
    faiss.copy_array_to_vector(bias, pca.b)
    pca.is_trained = True

    def run():
        np.save(target, pca.apply(np.load(source, mmap_mode="r")))

    return run


def neighbours(source, queries, k):
    # Mapped, for the index makes a copy.
    rows = np.load(source, mmap_mode="r")
    queries, k = np.array(rows[: int(queries)]), int(k)
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    return lambda: index.search(queries, k + 1)[1]


def spectrum(source, count):
    rows = np.load(source)
    dim, count = rows.shape[1], int(count)

    def run():
        pca = faiss.PCAMatrix(dim, count)
        pca.train(rows)
        return faiss.vector_to_array(pca.A)[: count * dim].reshape(count, dim)

    return run


if __name__ == "__main__":
    serve({"compress": compress, "neighbours": neighbours, "spectrum": spectrum})
