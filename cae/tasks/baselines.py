"""Classical denoising baselines, which need no training, each with its best parameters.

To add one, write `(image, **params) -> image` and name it in `BASELINES` with the parameters to search.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import joblib
import numpy as np
from scipy import ndimage
from skimage import restoration
from sklearn.model_selection import ParameterGrid

from cae import progress

FIRST_TUNING_IMAGES = 16
"""Images that all parameters of a baseline are tried on; only the better ones are tried on more."""

Params = dict[str, Any]
"""Keyword arguments of a denoiser, of types that JSON has."""


def median(image: np.ndarray, size: int) -> np.ndarray:
    """Returns the median of the `size` x `size` pixels around each pixel (Tukey 1977)."""
    return ndimage.median_filter(image, (size, size, 1))


def gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    """Returns the mean around each pixel with Gaussian weights of a standard deviation in pixels."""
    return ndimage.gaussian_filter(image, (sigma, sigma, 0))


def bilateral(image: np.ndarray, sigma_color: float, sigma_spatial: float) -> np.ndarray:
    """Returns means over pixels that are near and have a similar value (Tomasi and Manduchi 1998)."""
    # scikit-image refuses a channel axis of length 1 here.
    image, channel_axis = (image[..., 0], None) if image.shape[-1] == 1 else (image, -1)
    return restoration.denoise_bilateral(image, None, sigma_color, sigma_spatial, channel_axis=channel_axis)


def non_local_means(image: np.ndarray, h: float, patch_size: int) -> np.ndarray:
    """Returns means over pixels whose surroundings are similar (Buades, Coll and Morel 2005)."""
    return restoration.denoise_nl_means(image, patch_size, patch_distance=6, h=h, fast_mode=True, channel_axis=-1)


def total_variation(image: np.ndarray, weight: float) -> np.ndarray:
    """Returns the image of minimal total variation near this one (Rudin, Osher, Fatemi 1992; Chambolle 2004)."""
    return restoration.denoise_tv_chambolle(image, weight=weight, channel_axis=-1)


def wavelet(image: np.ndarray, wavelet: str, threshold: float) -> np.ndarray:
    """Returns the image with soft-thresholded wavelet coefficients (Donoho and Johnstone 1994)."""
    # VisuShrink's threshold is sigma sqrt(2 log n): this sigma leads to the given threshold.
    sigma = threshold / np.sqrt(2 * np.log(image[..., 0].size))
    return restoration.denoise_wavelet(
        image, sigma=sigma, wavelet=wavelet, method="VisuShrink", rescale_sigma=False, channel_axis=-1
    )


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A denoiser and the parameters to search.

    Attributes:
      denoise: `(image, **params) -> image`, images `[height, width, channels]` in 0..1.
      param_grid: The values to try of each parameter.
    """

    denoise: Callable[..., np.ndarray]
    param_grid: Mapping[str, Sequence[Any]]

    def __call__(self, noisy: np.ndarray, params: Params) -> np.ndarray:
        """Returns noisy images `[n, height, width, channels]`, denoised one by one, float32 in 0..1."""
        # Arrays of another process are read-only, which scikit-image may refuse; it may drop a gray channel.
        denoised = [np.reshape(self.denoise(image.copy(), **params), image.shape) for image in noisy]
        # For an image without noise, some parameters lead to 0 / 0.
        return np.nan_to_num(np.stack(denoised).astype(np.float32)).clip(0, 1)


BASELINES: dict[str, Baseline] = {
    "median": Baseline(median, {"size": (3, 5, 7)}),
    "gaussian": Baseline(gaussian, {"sigma": (0.3, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0)}),
    "bilateral": Baseline(
        bilateral, {"sigma_color": (0.05, 0.1, 0.2, 0.4, 0.8, 1.6), "sigma_spatial": (0.7, 1.0, 1.5)}
    ),
    "non-local means": Baseline(
        non_local_means, {"h": (0.03, 0.05, 0.065, 0.08, 0.1, 0.125, 0.15, 0.2, 0.3, 0.5), "patch_size": (3, 5)}
    ),
    "total variation": Baseline(total_variation, {"weight": (0.01, 0.03, 0.06, 0.1, 0.2, 0.3, 0.5, 0.8)}),
    "wavelet": Baseline(
        wavelet,
        {"wavelet": ("db1", "db2"), "threshold": (0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.9, 1.3, 1.8, 2.5)},
    ),
}
"""What learned denoisers are compared with."""


@dataclasses.dataclass(frozen=True)
class BaselineData:
    """The images of one noise, all `[n, height, width, channels]`, clean ones in 0..1.

    Attributes:
      clean: Clean images for the search of parameters.
      noisy: The same images with noise.
      test_images: Batches of noisy images to denoise.
      params: The best parameters by name of the baseline, where they are known; None for a search.
    """

    clean: np.ndarray
    noisy: np.ndarray
    test_images: Sequence[np.ndarray]
    params: Mapping[str, Params] | None = None


@dataclasses.dataclass(frozen=True)
class BaselineResult:
    """The outputs of a baseline for the test images.

    Attributes:
      method: The name of the baseline.
      params: Its parameters.
      denoised: Batches, each float32 `[n, height, width, channels]` in 0..1.
      seconds: The time for denoising, without the search.
    """

    method: str
    params: Params
    denoised: Sequence[np.ndarray]
    seconds: float


def grid_search(baseline: Baseline, clean: np.ndarray, noisy: np.ndarray) -> Params:
    """Returns the parameters of the highest mean PSNR over images `[n, height, width, channels]` in 0..1.

    By successive halving (Jamieson and Talwalkar 2016) in one step: the best quarter of all parameters on the first
    `FIRST_TUNING_IMAGES` images, and three at least, are tried on all images.
    """

    def mean_psnr(params: Params, count: int) -> float:
        # As `metrics.psnr`, without TensorFlow, which each worker process would have to import.
        mse = np.square(baseline(noisy[:count], params) - clean[:count]).mean(axis=(1, 2, 3))
        return float(np.mean(-10 * np.log10(np.maximum(mse, 1e-10))))

    candidates = [*ParameterGrid(baseline.param_grid)]
    if len(clean) > FIRST_TUNING_IMAGES:
        candidates.sort(key=lambda params: mean_psnr(params, FIRST_TUNING_IMAGES), reverse=True)
        candidates = candidates[: max(3, len(candidates) // 4)]
    return max(candidates, key=lambda params: mean_psnr(params, len(clean)))


def run_baseline(name: str, data: BaselineData) -> BaselineResult:
    """Denoises the test images by one of `BASELINES` with its best parameters."""
    baseline = BASELINES[name]
    params = data.params[name] if data.params else grid_search(baseline, data.clean, data.noisy)
    start = time.perf_counter()
    denoised = [baseline(images, params) for images in data.test_images]
    return BaselineResult(name, params, denoised, time.perf_counter() - start)


def run_baselines(noises: Sequence[BaselineData]) -> list[list[BaselineResult]]:
    """Denoises the test images of each noise by all baselines, on all CPU cores.

    Args:
      noises: The images of each noise; parameters are searched for each noise by itself.

    Returns:
      For each noise the results of `BASELINES`, in their order.
    """
    work = (joblib.delayed(run_baseline)(name, data) for data in noises for name in BASELINES)
    total = len(noises) * len(BASELINES)
    results = progress.parallel_map(work, total, "denoising by classical baselines", "baseline")
    return [results[start : start + len(BASELINES)] for start in range(0, len(results), len(BASELINES))]
