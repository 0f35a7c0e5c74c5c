"""What latent vectors contain: linear probes, clusters, effective dimensions, two-dimensional embeddings.

scikit-learn runs in processes of one thread each, since threads that wait for each other are many times slower on a
loaded machine.
"""

import dataclasses

import joblib
import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from cae import progress

# Inverse regularization strengths of the linear probe, to choose from.
C_GRID = (0.1, 1.0, 10.0, 100.0)

# Standard deviations below this fraction of the largest one are those of unused dimensions.
NEGLIGIBLE_STD_FRACTION = 0.01

# Initializations of k-means, of which the best is kept; the ACAI paper has 1,000.
MAX_N_INIT, MIN_N_INIT = 100, 10

# Vectors times dimensions times clusters up to which there are MAX_N_INIT: half a minute's.
MAX_N_INIT_SIZE = 50_000 * 32 * 10

# scikit-learn's defaults.
TSNE_PERPLEXITY, TSNE_ITERATIONS = 30.0, 1000


@dataclasses.dataclass(frozen=True)
class Codes:
    """Latent vectors of images, float32 [n, latent_dim], and their labels, int [n]."""

    vectors: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Clustering:
    """Clusters of test images compared with their classes.

    Attributes:
      accuracy: The fraction of images in the cluster of their class.
      confusion: Numbers of images by cluster and class, int [clusters, classes].
      matches: The class of each cluster, int [clusters], increasing.
      n_init: Number of initializations of k-means.
    """

    accuracy: float
    confusion: np.ndarray
    matches: np.ndarray
    n_init: int


def linear_probe_accuracy(train: Codes, validation: Codes, test: Codes) -> float:
    """Returns the test accuracy of multinomial logistic regression on latent vectors.

    It is fitted to standardized training codes; its regularization is the value of `C_GRID` with the best validation
    accuracy, the strongest of equals.
    """
    jobs = (joblib.delayed(_fit_probe)(train, c) for c in C_GRID)
    probes = progress.parallel_map(jobs, len(C_GRID), "fitting linear probes", "probe")
    best = max(probes, key=lambda probe: probe.score(validation.vectors, validation.labels))
    return float(best.score(test.vectors, test.labels))


def _fit_probe(train: Codes, c: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)).fit(train.vectors, train.labels)


def cluster(train: Codes, test: Codes, whiten: bool, n_init: int | None = None) -> Clustering:
    """Clusters training codes by k-means, with a cluster per class, and compares test images' clusters with classes.

    Clusters and classes are matched one to one so that most test images are correct: the measure of Berthelot, Raffel,
    Roy and Goodfellow 2018, section 5.2, who whiten the codes before.

    Args:
      train: Codes to cluster; the labels only give the number of classes.
      test: Codes to assign to clusters.
      whiten: Whether principal components are scaled to unit variance before.
      n_init: Number of random initializations; None for `MAX_N_INIT`, or fewer for large problems.
    """
    train_vectors, test_vectors, num_classes = train.vectors, test.vectors, len(np.unique(train.labels))
    if whiten:
        whitening = fit_whitening(train_vectors)
        train_vectors, test_vectors = whitening.transform(train_vectors), whitening.transform(test_vectors)
    if n_init is None:
        size = train_vectors.size * num_classes
        n_init = int(np.clip(MAX_N_INIT * MAX_N_INIT_SIZE // size, MIN_N_INIT, MAX_N_INIT))
    jobs = (joblib.delayed(_fit_kmeans)(train_vectors, num_classes, seed) for seed in range(n_init))
    candidates = progress.parallel_map(jobs, n_init, "k-means", "initialization")
    kmeans = min(candidates, key=lambda candidate: candidate.inertia_)
    confusion = np.zeros((num_classes, 1 + max(train.labels.max(), test.labels.max())), np.int64)
    np.add.at(confusion, (kmeans.predict(test_vectors), test.labels), 1)
    confusion, matches = hungarian_match(confusion)
    return Clustering(float(confusion[np.arange(num_classes), matches].sum() / len(test)), confusion, matches, n_init)


def _fit_kmeans(vectors: np.ndarray, num_clusters: int, seed: int) -> KMeans:
    kmeans = KMeans(num_clusters, init="random", n_init=1, random_state=seed).fit(vectors)
    kmeans.labels_ = None  # Of the size of the data, and not needed.
    return kmeans


def hungarian_match(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matches clusters with classes one to one, so that most images are in the cluster of their class (Kuhn 1955).

    Args:
      confusion: Numbers of images by cluster and class, int [clusters, classes], with clusters <= classes.

    Returns:
      confusion: Its rows in the order of their classes.
      matches: These classes, int [clusters].
    """
    _, classes = linear_sum_assignment(confusion, maximize=True)
    order = np.argsort(classes)
    return confusion[order], classes[order]


def fit_whitening(vectors: np.ndarray) -> PCA:
    """Returns the principal components of vectors [n, latent_dim], scaled to unit variance, without negligible ones.

    Directions of negligible variance are rounding errors and noise, which whitening would amplify.
    """
    deviations = np.sqrt(variances(vectors))
    n_components = int(np.sum(deviations > NEGLIGIBLE_STD_FRACTION * deviations[0]))
    return PCA(min(max(n_components, 1), *vectors.shape), whiten=True, svd_solver="full").fit(vectors)


def variances(vectors: np.ndarray) -> np.ndarray:
    """Returns the variances of vectors [n, latent_dim] along their principal components, [latent_dim], decreasing."""
    covariance = np.atleast_2d(np.cov(vectors, rowvar=False, dtype=np.float64, bias=True))
    return np.linalg.eigvalsh(covariance)[::-1].clip(0)


def effective_dimensions(vectors: np.ndarray) -> dict[str, float]:
    """Measures how many of their dimensions vectors use.

    Args:
      vectors: Latent vectors, [n, latent_dim].

    Returns:
      participation_ratio: (sum l)^2 / sum l^2 of the covariance's eigenvalues l, from 1 to latent_dim.
      n_components_99: Number of principal components with 99% of the variance.
      active_units: Number of dimensions whose standard deviation is above `NEGLIGIBLE_STD_FRACTION` of the largest one.
      All are 0 if all vectors are equal.
    """
    eigenvalues, deviations = variances(vectors), vectors.std(axis=0, dtype=np.float64)
    total = eigenvalues.sum()
    if total == 0:
        return {"participation_ratio": 0.0, "n_components_99": 0, "active_units": 0}
    return {
        "participation_ratio": float(total**2 / np.square(eigenvalues).sum()),
        "n_components_99": int(np.searchsorted(np.cumsum(eigenvalues) / total, 0.99 - 1e-12)) + 1,
        "active_units": int(np.sum(deviations > NEGLIGIBLE_STD_FRACTION * deviations.max())),
    }


def embed_2d(vectors: np.ndarray, t_sne: bool = True) -> dict[str, np.ndarray]:
    """Embeds vectors in two dimensions, by PCA and by t-SNE (van der Maaten and Hinton 2008) with a fixed seed.

    Args:
      vectors: Latent vectors, [n, latent_dim].
      t_sne: Whether to compute t-SNE, which takes seconds.

    Returns:
      Points [n, 2] by the name of the method, PCA first.
    """
    centered = vectors - vectors.mean(axis=0)
    methods = {"PCA": PCA(2, svd_solver="full").fit_transform} | ({"t-SNE": _t_sne} if t_sne else {})
    if not centered.any():
        return {name: np.zeros((len(vectors), 2)) for name in methods}
    if centered.shape[1] == 1:
        centered = np.pad(centered, ((0, 0), (0, 1)))
    return {name: method(centered) for name, method in methods.items()}


def _t_sne(vectors: np.ndarray) -> np.ndarray:
    if len(vectors) < 5:
        return np.zeros((len(vectors), 2))  # Too few to have neighbors.
    perplexity = min(TSNE_PERPLEXITY, (len(vectors) - 1) / 3)
    # Initialized on a line, points would never leave it.
    init = "pca" if vectors[:, 1:].any() else "random"
    with progress.phase("t-SNE"), threadpool_limits(1):
        t_sne = TSNE(2, perplexity=perplexity, init=init, max_iter=TSNE_ITERATIONS, random_state=0)
        return t_sne.fit_transform(vectors)
