"""Shows a trained model in the browser: python -m cae.demo --workdir=runs/denoise.

Draw or drop an image, or click an example: the page shows it with noise, denoised, its latent vector, whether it is an
outlier, and where; and images between two images. It is served to browsers on this machine only, and needs no network.
Ctrl-C ends it.
"""

import importlib.util

from absl import flags
from etils import epy

import cae.config
from cae import cli, runtime
from cae.config import define_config_flags, explicit_flags
from cae.errors import UserError
from cae.tasks.flags import dataset_location, requested_precision
from cae.workdir import check_same_config, load_run_config, workdir_from_flags

# Flags are checked before TensorFlow is imported, which takes seconds.
with epy.lazy_imports():
    from cae import run as run_lib
    from cae.demo import loading, page, server


def define_flags() -> None:
    """Defines the flags of this program."""
    define_config_flags()
    flags.adopt_module_key_flags(cae.config)  # So that --help lists them.
    flags.DEFINE_integer("port", 7860, "Port of the page on this machine; 0: any.", lower_bound=0, upper_bound=65535)


def main() -> None:
    """Checks the flags, loads the run, and serves its page until Ctrl-C."""
    values = flags.FLAGS
    check_gradio()
    run_config = load_run_config(workdir_from_flags(values))
    check_same_config(run_config, explicit_flags(values), ignore={"precision"})
    runtime.import_tensorflow()
    with server.private_environment():
        port = server.check_port(values.port)
        run = run_lib.Run.load(workdir_from_flags(values), requested_precision(values))
        demo = loading.load_demo(run, dataset_location(values))
        for note in demo.notes:
            cli.print_line(f"warning: {note}")
        with server.serve(page.build_app(demo), port) as url:
            cli.print_line(f"open {url} in a browser on this machine; Ctrl-C ends the demo")
            server.wait()


def check_gradio() -> None:
    """Raises `UserError` where Gradio is not installed."""
    if importlib.util.find_spec("gradio") is None:
        raise UserError("Gradio is not installed, which the demo needs; run pip install -e '.[demo]'")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
