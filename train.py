"""Trains an autoencoder: python train.py --flagfile=configs/denoise.cfg [--epochs=5 ...]."""

from absl import flags
from etils import epy

from cae import config, metrics, models, program
from cae.data import noise, sources

# What a person typed is checked before TensorFlow is imported, which takes seconds.
with epy.lazy_imports():
    from cae.data import pipeline
    from cae.training import distribution, loop, objectives, state


def main() -> None:
    """Reads the flags, opens the data set, builds strategy, model and optimizer, and fits the model."""
    settings, workdir = config.from_flags(), config.workdir_from_flags()
    models.find(settings.model, config.said_settings())
    metrics.find_loss(settings.loss)
    corrupt = noise.parse(settings.noise)
    config.open_workdir(workdir)
    if settings.classes:
        program.start_tensorflow()  # To count the images of some classes is to read them.
    source = sources.open_source(settings)
    sources.check(source, settings.batch_size)
    for line in source.notices():
        print(line, flush=True)

    program.start_tensorflow()
    strategy = distribution.make_strategy(settings.strategy, settings.logical_cpus)
    config.check_shares(settings.batch_size, strategy.num_replicas_in_sync)
    record = config.claim(workdir, settings, source.describe())
    feed = pipeline.feed(source, corrupt, settings.batch_size, settings.seed)
    start = state.build_state(strategy, settings, source.image_shape, feed.steps(settings.epochs))
    loop.fit(strategy, start, objectives.find(settings), feed, workdir, record)


if __name__ == "__main__":
    config.define_flags()
    flags.adopt_module_key_flags(config)  # So that --help lists them.
    program.run(main)
