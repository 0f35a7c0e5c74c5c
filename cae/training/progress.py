"""What a person sees while a model is fitted: a bar on a terminal, a line an epoch everywhere."""

import sys
import time

from tqdm import tqdm


class Progress:
    """Epoch, loss, images a second and time left, from where so many images were seen; whoever uses it closes it."""

    def __init__(self, images_an_epoch: int, images_done: int, epochs: int):
        self._images_an_epoch, self._epochs = images_an_epoch, epochs
        self._start, self._first, self._done = time.monotonic(), images_done, images_done
        self._bar = tqdm(
            total=images_an_epoch * epochs,
            initial=images_done,
            unit="image",
            unit_scale=True,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {rate_fmt} {remaining} left{postfix}",
        )

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()

    def advance(self, epoch: int, images: int, loss: float) -> None:
        """Tells of so many more images in epoch `epoch`, counted from 1, with this mean loss."""
        self._done += images
        self._bar.set_description_str(f"epoch {epoch}/{self._epochs}")
        self._bar.set_postfix_str(f"loss {loss:.5f}", refresh=False)
        self._bar.update(images)

    def report(self, epoch: int, scalars: dict[str, float], best: bool) -> None:
        """Prints what an epoch came to."""
        seconds_an_image = (time.monotonic() - self._start) / max(self._done - self._first, 1)
        left = seconds_an_image * max(self._images_an_epoch * self._epochs - self._done, 0)
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
