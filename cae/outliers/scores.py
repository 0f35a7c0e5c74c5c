"""Anomaly scores of images under a trained model: larger for outliers, fitted to the training split alone."""

from __future__ import annotations

from collections.abc import Collection

from etils import epy

from cae.errors import UserError, unknown_choice_error
from cae.outliers.fisher import EmbeddingCombination, HOGCombination
from cae.outliers.neighbor_scores import HOGScore, KNNScore, Mahalanobis
from cae.outliers.reconstruction_scores import DenoisingError, MeanSquaredError, SSIMScore, TopKPixelError
from cae.outliers.score import Score

with epy.lazy_imports():
    import keras

ALL_CAPABILITIES = {"latents": "latent vectors", "embeddings": "a trained classifier of clusters"}
"""What a score may need of a model, by the name in `Score.needs`."""

# The names in `--score`; see `default_score`. To add one, write a subclass of `Score`:
#
#   class MaxError(Score):
#       def __call__(self, outputs):
#           return tf.reduce_max(tf.abs(outputs.image - outputs.output), axis=[1, 2, 3]).numpy()
#
#   SCORES["max_error"] = MaxError
SCORES: dict[str, type[Score]] = {
    "fisher": HOGCombination,
    "mse": MeanSquaredError,
    "ssim": SSIMScore,
    "top_pixels": TopKPixelError,
    "mahalanobis": Mahalanobis,
    "knn": KNNScore,
    "denoising": DenoisingError,
    "hog": HOGScore,
    "deep_cluster": EmbeddingCombination,
}


def get_score(name: str, capabilities: Collection[str] = ALL_CAPABILITIES) -> type[Score]:
    """Returns the class of a score.

    Args:
      name: A key of `SCORES`.
      capabilities: What the model has, of `ALL_CAPABILITIES`.

    Raises:
      UserError: The name is unknown, or the score needs what the model does not have.
    """
    if name not in SCORES:
        raise unknown_choice_error("--score", name, SCORES)
    if SCORES[name].needs not in {None, *capabilities}:
        available = ", ".join(available_scores(capabilities))
        raise UserError(
            f"--score={name} needs {ALL_CAPABILITIES[SCORES[name].needs]}, which this model does not have; available:"
            f" {available}"
        )
    return SCORES[name]


def default_score(capabilities: Collection[str]) -> str:
    """Returns the name of the score that is used where none is named."""
    return "deep_cluster" if "embeddings" in capabilities else "fisher"


def available_scores(capabilities: Collection[str]) -> dict[str, type[Score]]:
    """Returns the scores by name for which a model with these capabilities suffices."""
    return {name: score for name, score in SCORES.items() if score.needs in {None, *capabilities}}


def model_capabilities(model: keras.Model) -> set[str]:
    """Returns which of `ALL_CAPABILITIES` a model has; it has no embeddings before its classifier is trained."""
    has_embeddings = hasattr(model, "embeddings") and model.has_clusters
    return ({"latents"} if hasattr(model, "encode") else set()) | ({"embeddings"} if has_embeddings else set())
