"""What latent vectors are worth: do they tell classes apart, how many of their numbers are used, how do they lie."""

import dataclasses
from collections.abc import Iterable

import joblib
import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""Inverse strengths of the classifier's regularisation, to choose from."""

NEGLIGIBLE = 0.01
"""A standard deviation that is smaller, as a share of the largest one, is that of a number which is not used."""

RESTARTS, FEWEST_RESTARTS = 100, 10
"""Starts of k-means, of which the best is kept: as many as half a minute allows, where the ACAI paper has 1,000."""

QUICK = 50_000 * 32 * 10
"""Vectors times dimensions times clusters up to which there is time for all `RESTARTS`."""

PERPLEXITY, TSNE_ITERATIONS = 30.0, 1000
"""Of t-SNE; scikit-learn's own defaults."""


@dataclasses.dataclass(frozen=True)
class Codes:
    """Latent vectors of some images, float32 [n, dims], and their labels, int [n]."""

    vectors: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Clustering:
    """Test images' clusters beside their classes.

    accuracy: the share of images in the cluster of their class; confusion: images by cluster and class, int [clusters,
    classes]; matches: the class of each cluster, int [clusters], in rising order; restarts: how often k-means was
    begun.
    """

    accuracy: float
    confusion: np.ndarray
    matches: np.ndarray
    restarts: int


def linear_accuracy(train: Codes, validation: Codes, test: Codes) -> float:
    """Returns the share of test images whose class multinomial logistic regression finds in their latent vectors.

    It is fitted to the training codes, each number scaled to unit variance; its regularisation is the one of
    `STRENGTHS` that is best on the validation codes, the strongest of equals.
    """
    tried = _apart(joblib.delayed(_classifier)(train, strength) for strength in STRENGTHS)
    best = max(tried, key=lambda classifier: classifier.score(validation.vectors, validation.labels))
    return float(best.score(test.vectors, test.labels))


def _classifier(train: Codes, strength: float) -> Pipeline:
    regression = LogisticRegression(C=strength, max_iter=1000)
    return make_pipeline(StandardScaler(), regression).fit(train.vectors, train.labels)


def cluster(train: Codes, test: Codes, whiten: bool, n_init: int | None = None) -> Clustering:
    """Clusters training codes without their labels, and says how well that tells test images' classes apart.

    k-means with a cluster a class, the best of several starts; then the matching of clusters with classes, one to one,
    that is right for most test images (Kuhn 1955): the measure of Berthelot, Raffel, Roy and Goodfellow 2018, section
    5.2. They whiten the codes before, which makes every direction as important as any other.

    Args:
      train: Codes to cluster.
      test: Codes to assign to clusters.
      whiten: Whether principal components are scaled to unit variance before.
      n_init: How often k-means is begun, from random codes; None for `RESTARTS`, or as many as are quick.

    Returns:
      The test codes' clusters beside their classes.
    """
    vectors, tried, clusters = train.vectors, test.vectors, len(np.unique(train.labels))
    if whiten:
        whitener = whitening(vectors)
        vectors, tried = whitener.transform(vectors), whitener.transform(tried)
    quick = np.clip(RESTARTS * QUICK // (vectors.size * clusters), FEWEST_RESTARTS, RESTARTS)
    restarts = n_init or int(quick)
    found = _apart(joblib.delayed(_k_means)(vectors, clusters, seed) for seed in range(restarts))
    best = min(found, key=lambda each: each.inertia_)
    confusion = np.zeros((clusters, 1 + max(train.labels.max(), test.labels.max())), np.int64)
    np.add.at(confusion, (best.predict(tried), test.labels), 1)
    confusion, matches = matched(confusion)
    return Clustering(float(confusion[np.arange(clusters), matches].sum() / len(test)), confusion, matches, restarts)


def _k_means(vectors: np.ndarray, clusters: int, seed: int) -> KMeans:
    found = KMeans(clusters, init="random", n_init=1, random_state=seed).fit(vectors)
    found.labels_ = None  # As many as there are vectors, and not needed.
    return found


def matched(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matches clusters with classes, one to one, so that most images are in the cluster of their class.

    confusion: images by cluster and class, int [clusters, classes], not more clusters than classes. Returns its lines
    in the order of their classes, and those classes, int [clusters].
    """
    _, classes = linear_sum_assignment(confusion, maximize=True)
    order = np.argsort(classes)
    return confusion[order], classes[order]


def whitening(vectors: np.ndarray) -> PCA:
    """Returns the principal components of vectors [n, dims], made of unit variance, without those that are negligible.

    What has next to no variance is rounding and noise, which whitening would blow up to the size of all the rest.
    """
    deviations = np.sqrt(variances(vectors))
    kept = int(np.sum(deviations > NEGLIGIBLE * deviations[0]))
    return PCA(min(max(kept, 1), *vectors.shape), whiten=True, svd_solver="full").fit(vectors)


def variances(vectors: np.ndarray) -> np.ndarray:
    """Returns the eigenvalues of the covariance of vectors [n, dims], [dims], from the largest one on."""
    covariance = np.atleast_2d(np.cov(vectors, rowvar=False, dtype=np.float64, bias=True))
    return np.linalg.eigvalsh(covariance)[::-1].clip(0)


def usage(vectors: np.ndarray) -> dict[str, float]:
    """Returns how many of their dimensions vectors [n, dims] really use, by three measures; 0 where all are the same.

    participation_ratio: (sum l)^2 / sum l^2 of the covariance's eigenvalues l, from 1 to dims; components_99: how many
    principal components hold 99% of the variance; active: how many numbers have a standard deviation above `NEGLIGIBLE`
    times the largest one.
    """
    eigenvalues, deviations = variances(vectors), vectors.std(axis=0, dtype=np.float64)
    total = eigenvalues.sum()
    if total == 0:
        return {"participation_ratio": 0.0, "components_99": 0, "active": 0}
    return {
        "participation_ratio": float(total**2 / np.square(eigenvalues).sum()),
        "components_99": int(np.searchsorted(np.cumsum(eigenvalues) / total, 0.99 - 1e-12)) + 1,
        "active": int(np.sum(deviations > NEGLIGIBLE * deviations.max())),
    }


def maps(vectors: np.ndarray, t_sne: bool = True) -> dict[str, np.ndarray]:
    """Returns where vectors lie on maps of two dimensions, the same for the same vectors.

    PCA keeps the directions of most variance; t-SNE keeps who is near whom (van der Maaten and Hinton 2008).

    Args:
      vectors: Latent vectors, [n, dims].
      t_sne: Whether there is a map by t-SNE, which takes seconds.

    Returns:
      Points, [n, 2], by the name of the method, PCA first.
    """
    centred = vectors - vectors.mean(axis=0)
    methods = {"PCA": PCA(2, svd_solver="full").fit_transform} | ({"t-SNE": _t_sne} if t_sne else {})
    if not centred.any():
        return {name: np.zeros((len(vectors), 2)) for name in methods}
    if centred.shape[1] == 1:
        centred = np.pad(centred, ((0, 0), (0, 1)))  # A line is drawn as one.
    return {name: method(centred) for name, method in methods.items()}


def _t_sne(vectors: np.ndarray) -> np.ndarray:
    if len(vectors) < 5:
        return np.zeros((len(vectors), 2))  # Too few to have neighbours.
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    # From a line it would never leave that line.
    start = "pca" if vectors[:, 1:].any() else "random"
    method = TSNE(2, perplexity=perplexity, init=start, max_iter=TSNE_ITERATIONS, random_state=0)
    return _apart([joblib.delayed(method.fit_transform)(vectors)])[0]


def _apart(work: Iterable) -> list:
    """Returns what joblib's tasks return, each done in a process of few threads.

    Threads that wait for each other are many times slower where there is other work.
    """
    return joblib.Parallel(n_jobs=-1)(work)
