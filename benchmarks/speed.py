"""Speed, side by side in one run: python -m benchmarks.speed --flagfile=configs/denoise.cfg [--rows=ours,fit].

Our training step, with noise drawn in the pipeline, in each precision and with two logical replicas; Keras' `fit`;
PyTorch on the same architecture, batch, data and noise, where it is installed; forward passes; how long a step waits
for data; and how large a share of the machine's own matrix product each reaches. Each row has a process of its own.
Their rounds take turns, so that a machine that slows down slows all of them alike, and the fastest one counts: whatever
else the machine does can only add to the time. The figures that hold on another machine are the ratios.
"""

import subprocess
import sys
import time

from absl import flags

from benchmarks import rows
from benchmarks.processes import Contestant
from cae import config, program

ROUNDS = 3


def define_flags() -> None:
    """Defines the flags of this program: those of a run, and its own."""
    config.define_flags()
    flags.DEFINE_list("rows", [], f"What is measured, all unless said: {', '.join(rows.ROWS)}.")


def main() -> None:
    """Measures and prints a table."""
    names, settings = rows.check(flags.FLAGS.rows), config.from_flags()
    words = [word for word in sys.argv[1:] if not word.startswith(("--rows", "--workdir"))]
    contestants = {}
    for name in names:
        contestants[name] = Contestant(name, [*words, *rows.ROWS[name].flags])
        if contestants[name].missing:
            print(f"{rows.ROWS[name].title}: left out, {contestants.pop(name).missing}", flush=True)
    rates = take_turns(contestants)
    for contestant in contestants.values():
        contestant.end()
    per_image = operations(settings)
    print("\n".join(table(rates, settings, per_image)))
    print(f"start to first step: {start_to_first_step(words):.1f} s")


def take_turns(contestants: dict[str, Contestant]) -> dict[str, list[float]]:
    """Returns what each contestant did a second in each round, after a round that does not count."""
    rates = {name: [] for name in contestants}
    for number in range(ROUNDS + 1):
        for name, contestant in contestants.items():
            rate = contestant.round()
            if number:
                rates[name].append(rate)
        if number:
            last = ", ".join(f"{name} {each[-1]:.4g}" for name, each in rates.items())
            print(f"round {number} of {ROUNDS}, each in a second: {last}", flush=True)
    return rates


def operations(settings: config.Config) -> dict[str, int]:
    """Returns the operations for an image of a training step and of a forward pass, counted in the model's graph."""
    program.start_tensorflow()
    import tensorflow as tf

    from benchmarks import flops
    from cae import metrics, models
    from cae.data import sources

    shape = sources.open_source(settings).image_shape
    model = models.build(settings, shape)
    one = tf.TensorSpec([1, *shape])
    loss_of = metrics.find_loss(settings.loss)
    return {"steps": flops.of_step(model, one, loss_of), "forward": flops.of_forward(model, one)}


def table(rates: dict[str, list[float]], settings: config.Config, per_image: dict[str, int]) -> list[str]:
    """Returns the lines of the table: fastest and slowest round, the ratio to our step, the share of the peak.

    rates: what each row did in a second; per_image: operations of an image, by unit. The peak is the fastest float32
    matrix product, whoever multiplied.
    """
    peaks = [max(rates[name]) for name in ("product", "product_numpy") if name in rates]
    ours = max(rates["ours"]) if "ours" in rates else None
    lines = [f"batches of {settings.batch_size}, {per_image['steps'] / 1e6:.1f} million operations an image and step"]
    lines.append(f"{'':46}{'fastest':>10}{'slowest':>10}{'ratio':>8}{'of peak':>9}")
    for name, each in rates.items():
        row, ratio, share = rows.ROWS[name], "", ""
        if row.unit == "waiting":
            lines.append(f"{row.title:46}{100 * min(each):>9.2f}%{100 * max(each):>9.2f}%")
            continue
        scale, unit = (1e-9, "GFLOP/s") if row.unit == "operations" else (settings.batch_size, "images/s")
        if ours and row.unit == "steps":
            ratio = f"{max(each) / ours:.2f}"
        if peaks and row.unit in per_image:
            share = f"{100 * scale * max(each) * per_image[row.unit] / max(peaks):.0f}%"
        figures = f"{scale * max(each):>10,.0f}{scale * min(each):>10,.0f}"
        lines.append(f"{row.title:46}{figures}{ratio:>8}{share:>9}  {unit}")
    return lines


def start_to_first_step(words: list[str]) -> float:
    """Returns the seconds that a fresh Python needs from its first line to the end of the first training step."""
    command = [sys.executable, "-m", "benchmarks.first_step", *words]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    define_flags()
    program.run(main)
