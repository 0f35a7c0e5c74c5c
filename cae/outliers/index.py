"""An index of vectors for their nearest neighbors, as bytes: what was calibrated with one is used with the same one."""

import numpy as np
from etils import epy

# It takes a while to import, and not every detector needs it.
with epy.lazy_imports():
    import faiss

LISTED = 2000
"""From so many references on they are searched by lists, of which the nearest ones are looked through."""


def build(references: np.ndarray) -> np.ndarray:
    """Builds an index of vectors: exact for few, inverted lists (Sivic and Zisserman 2003) for many.

    Built again on another machine or by another version of FAISS, the lists may have other centroids, and other
    neighbors be found. So the index itself is kept, and not the vectors, which it holds: 4 bytes a number, 8 more a
    vector.

    Args:
      references: Vectors [n, d].

    Returns:
      The index as bytes, uint8 [length], for `load`.
    """
    rows = np.ascontiguousarray(references, np.float32)
    dimensions, lists = rows.shape[1], int(np.sqrt(len(rows)))
    if len(rows) < LISTED:
        index = faiss.IndexFlatL2(dimensions)
    else:
        # Eight of 212 lists hold most of the true neighbors of MNIST's digits, in a tenth of the time of all.
        index = faiss.index_factory(dimensions, f"IVF{lists},Flat")
        index.nprobe = max(8, lists // 32)
        index.train(rows)
    index.add(rows)
    return faiss.serialize_index(index)


def load(content: np.ndarray) -> "faiss.Index":
    """Returns the index in bytes of `build`, with the number of lists that are looked through.

    Bytes that are damaged may crash the process: whoever reads them from a file has to check them before.

    Args:
      content: What `build` returned, uint8 [length].
    """
    return faiss.deserialize_index(content)
