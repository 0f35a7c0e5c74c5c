"""What a person sees while a model is fitted: a bar on a terminal, a line an epoch everywhere."""

import sys
import time

from tqdm import tqdm


class Progress:
    """Epoch, loss, images a second and time left; a context in which the bar stands."""

    def __init__(self, images_an_epoch: int, epochs_done: int, epochs: int):
        self._first, self._epochs = epochs_done, epochs
        self._start = time.monotonic()
        self._bar = tqdm(
            total=images_an_epoch * epochs,
            initial=images_an_epoch * epochs_done,
            unit="image",
            unit_scale=True,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {rate_fmt} {remaining} left{postfix}",
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, epoch: int, images: int, loss: float) -> None:
        """Tells of so many more images in epoch `epoch`, counted from 1, with this mean loss."""
        self._bar.set_description_str(f"epoch {epoch}/{self._epochs}")
        self._bar.set_postfix_str(f"loss {loss:.5f}", refresh=False)
        self._bar.update(images)

    def report(self, epoch: int, scalars: dict[str, float], best: bool) -> None:
        """Prints what an epoch came to."""
        seconds_an_epoch = (time.monotonic() - self._start) / (epoch - self._first)
        left = seconds_an_epoch * (self._epochs - epoch)
        parts = [
            f"epoch {epoch}/{self._epochs}",
            f"loss {scalars['train/loss']:.5f}",
            f"validation loss {scalars['validation/loss']:.5f}" + (" (best)" if best else ""),
            f"PSNR {scalars['validation/psnr']:.2f} dB",
            f"SSIM {scalars['validation/ssim']:.3f}",
            f"{scalars['images_per_second']:,.0f} images/s",
            f"{_duration(left)} left",
        ]
        tqdm.write("  ".join(parts), file=sys.stdout)
        sys.stdout.flush()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
