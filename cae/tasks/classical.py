"""Denoising without learning: what people use otherwise, each at the best of its settings.

To add a method, write `(image, **setting) -> image` and name it in `METHODS` with the settings to choose from.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import joblib
import numpy as np
from scipy import ndimage
from skimage import restoration

Setting = dict[str, Any]


def median(image: np.ndarray, size: int) -> np.ndarray:
    """Returns the median of `size` x `size` pixels around each one (Tukey 1977)."""
    return ndimage.median_filter(image, (size, size, 1))


def gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    """Returns the mean around each pixel with Gaussian weights of that standard deviation, in pixels."""
    return ndimage.gaussian_filter(image, (sigma, sigma, 0))


def bilateral(image: np.ndarray, sigma_color: float, sigma_spatial: float) -> np.ndarray:
    """Returns means over pixels that are near and of a similar value (Tomasi and Manduchi 1998)."""
    options = {"sigma_color": sigma_color, "sigma_spatial": sigma_spatial}
    if image.shape[-1] == 1:  # Which it would not take for a channel.
        return restoration.denoise_bilateral(image[..., 0], **options)
    return restoration.denoise_bilateral(image, channel_axis=-1, **options)


def non_local_means(image: np.ndarray, h: float, patch_size: int) -> np.ndarray:
    """Returns means over pixels whose surroundings are similar (Buades, Coll and Morel 2005)."""
    return restoration.denoise_nl_means(image, patch_size, patch_distance=6, h=h, fast_mode=True, channel_axis=-1)


def total_variation(image: np.ndarray, weight: float) -> np.ndarray:
    """Returns the image of least total variation near this one (Rudin, Osher, Fatemi 1992; Chambolle 2004)."""
    return restoration.denoise_tv_chambolle(image, weight=weight, channel_axis=-1)


def wavelet(image: np.ndarray, wavelet: str, threshold: float) -> np.ndarray:
    """Returns the image without its small wavelet coefficients (Donoho and Johnstone 1994), soft thresholding."""
    # VisuShrink's threshold is sigma sqrt(2 log n); given the threshold itself, no noise level need be known.
    sigma = threshold / np.sqrt(2 * np.log(image[..., 0].size))
    return restoration.denoise_wavelet(
        image, sigma=sigma, wavelet=wavelet, method="VisuShrink", rescale_sigma=False, channel_axis=-1
    )


@dataclasses.dataclass(frozen=True)
class Method:
    """A denoiser `(image, **setting) -> image`, images [height, width, channels] in 0..1, and each setting's values."""

    denoise: Callable[..., np.ndarray]
    choices: dict[str, Sequence[Any]]

    def settings(self) -> list[Setting]:
        """Returns every combination of the choices."""
        return [dict(zip(self.choices, values)) for values in itertools.product(*self.choices.values())]


METHODS: dict[str, Method] = {
    "median": Method(median, {"size": (3, 5, 7)}),
    "gaussian": Method(gaussian, {"sigma": (0.3, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0)}),
    "bilateral": Method(bilateral, {"sigma_color": (0.05, 0.1, 0.2, 0.4, 0.8, 1.6), "sigma_spatial": (0.7, 1.0, 1.5)}),
    "non-local means": Method(non_local_means, {"h": (0.03, 0.1, 0.15, 0.2, 0.3, 0.5), "patch_size": (3, 5)}),
    "total variation": Method(total_variation, {"weight": (0.01, 0.03, 0.06, 0.1, 0.2, 0.3, 0.5, 0.8)}),
    "wavelet": Method(
        wavelet, {"wavelet": ("db1", "db2"), "threshold": (0.05, 0.1, 0.2, 0.4, 0.6, 0.9, 1.3, 1.8, 2.5)}
    ),
}
"""What learned denoisers are compared with."""


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What a method made of noisy images: cleaned, float32 [n, height, width, channels] in 0..1, in so many seconds."""

    method: str
    setting: Setting
    cleaned: np.ndarray
    seconds: float


def run(method: Method, setting: Setting, noisy: np.ndarray) -> np.ndarray:
    """Returns noisy images [n, height, width, channels], cleaned one by one, in 0..1."""
    # What another process is lent is read-only, which not all of scikit-image takes; it may lose a single channel.
    cleaned = [np.reshape(method.denoise(image.copy(), **setting), image.shape) for image in noisy]
    # Of an image without any noise, some settings make 0 / 0.
    return np.nan_to_num(np.stack(cleaned).astype(np.float32)).clip(0, 1)


def best_setting(method: Method, clean: np.ndarray, noisy: np.ndarray) -> Setting:
    """Returns the setting of the highest mean PSNR over images [n, height, width, channels]."""

    def psnr(setting: Setting) -> float:
        errors = np.square(run(method, setting, noisy) - clean).mean(axis=(1, 2, 3))
        return float(np.mean(-10 * np.log10(np.maximum(errors, 1e-10))))

    return max(method.settings(), key=psnr)


def attempt(
    name: str, clean: np.ndarray, noisy: np.ndarray, tried: np.ndarray, setting: Setting | None = None
) -> Attempt:
    """Cleans images by a method at its best setting.

    Args:
      name: One of `METHODS`.
      clean: Images to choose the setting by, [n, height, width, channels] in 0..1.
      noisy: The same images with noise.
      tried: The images to clean, [m, height, width, channels].
      setting: The best setting, where it is known; it is searched otherwise.

    Returns:
      The cleaned images and how long cleaning took, without the search.
    """
    method = METHODS[name]
    if setting is None:
        setting = best_setting(method, clean, noisy)
    start = time.perf_counter()
    cleaned = run(method, setting, tried)
    return Attempt(name, setting, cleaned, time.perf_counter() - start)


@dataclasses.dataclass(frozen=True)
class Column:
    """Images under one noise, all [n, height, width, channels] in 0..1.

    Attributes:
      clean: Images to tune the methods on.
      noisy: The same images with noise.
      tried: Noisy images to clean.
      settings: Each method's best setting by name, where they are known.
    """

    clean: np.ndarray
    noisy: np.ndarray
    tried: np.ndarray
    settings: Mapping[str, Setting] | None = None


def attempts(columns: Iterable[Column]) -> list[list[Attempt]]:
    """Cleans the images of every column by every method.

    A method is tuned for each column anew, unless its setting is known. All processors work on it, each at one method
    and column at a time.

    Args:
      columns: What to tune on and what to clean.

    Returns:
      For each column the attempts of all methods, in the order of `METHODS`.
    """
    columns = list(columns)
    work = (
        joblib.delayed(attempt)(name, each.clean, each.noisy, each.tried, each.settings and each.settings[name])
        for each in columns
        for name in METHODS
    )
    done = joblib.Parallel(n_jobs=-1)(work)
    return [done[start : start + len(METHODS)] for start in range(0, len(done), len(METHODS))]
