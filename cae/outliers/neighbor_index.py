"""FAISS indices of vectors as arrays of bytes, so that a saved score finds the neighbors it was calibrated with."""

import numpy as np
from etils import epy

# It takes a while to import, and not every score needs it.
with epy.lazy_imports():
    import faiss

# Number of vectors from which on inverted lists (IVF) are searched instead of all vectors.
IVF_MIN_REFERENCES = 2000


def build(references: np.ndarray) -> np.ndarray:
    """Builds an index: exact for few vectors, inverted lists (Sivic and Zisserman 2003) for many.

    On another machine or with another version of FAISS the lists' centroids may differ, and with them the neighbors
    that are found. So the index is saved, not the vectors, which it contains: 4 bytes per value, and 8 per vector.

    Args:
      references: Vectors [n, d].

    Returns:
      The serialized index, uint8 [length].
    """
    references = np.ascontiguousarray(references, np.float32)
    count, dimensions = references.shape
    if count < IVF_MIN_REFERENCES:
        index = faiss.IndexFlatL2(dimensions)
    else:
        num_lists = int(np.sqrt(count))
        index = faiss.index_factory(dimensions, f"IVF{num_lists},Flat")
        # For MNIST, 8 of 212 lists contain most of the true neighbors, in a tenth of the time of all lists.
        index.nprobe = max(8, num_lists // 32)
        index.train(references)
    index.add(references)
    return faiss.serialize_index(index)


def load(serialized: np.ndarray) -> "faiss.Index":
    """Returns the index that `build` serialized, with the same number of lists to search.

    Corrupt bytes may crash the process, so callers have to verify what they read from a file.
    """
    return faiss.deserialize_index(serialized)


def search(index: "faiss.Index", queries: np.ndarray, count: int, reconstruct: bool = False) -> tuple[np.ndarray, ...]:
    """Returns the nearest vectors of queries as `faiss.Index.search`, or as `search_and_reconstruct`.

    The lists that are searched may contain fewer, whose indices are -1. They contain one at least: where equal vectors
    leave most lists empty, all are searched.

    Args:
      index: What `load` returned.
      queries: float32 [n, d].
      count: Number of vectors for each query.
      reconstruct: Whether the vectors are returned, too.
    """
    find = index.search_and_reconstruct if reconstruct else index.search
    results = find(queries, count)
    is_missing = results[1][:, 0] < 0
    if is_missing.any() and isinstance(index, faiss.IndexIVF):
        everywhere = faiss.SearchParametersIVF(nprobe=index.nlist)
        for values, found in zip(results, find(queries[is_missing], count, params=everywhere)):
            values[is_missing] = found
    return results


def references(serialized: np.ndarray) -> np.ndarray:
    """Returns the vectors that `build` made an index of, float32 [n, d]."""
    index = load(serialized)
    return index.reconstruct_n(0, index.ntotal)
