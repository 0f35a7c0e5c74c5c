"""Fixtures and hooks of all tests: few threads, two devices on one CPU, a trained run, and real data if present."""

import dataclasses
import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from cae import runtime

# Two workers share two processors, and so do the processes that they start: one thread for each library. Before any of
# them is imported.
os.environ.update(
    TF_NUM_INTRAOP_THREADS="1",
    TF_NUM_INTEROP_THREADS="2",
    OMP_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    LOKY_MAX_CPU_COUNT="1",
    MPLBACKEND="Agg",
    TQDM_DISABLE="1",  # Whether lines of progress appear depends on time.
)

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

MAX_TENSORFLOW_PROCESSES = 25
"""Number of processes that import TensorFlow which the tests may start; each takes some ten seconds."""

LONGEST_FILES = (
    "tests/e2e", "tests/test_programs.py", "tests/test_predictions.py", "tests/training/test_crash_points.py",
    "tests/training/test_trainer.py", "tests/training", "tests/data/test_streamed", "tests/test_benchmarks",
    "tests/models",
)  # fmt: skip
"""Files that take longest start first, so that no worker is left with one at the end."""

MAY_START_PROCESSES = pytest.StashKey[bool]()


def pytest_configure(config):
    # The process that only distributes tests to pytest-xdist's workers needs no TensorFlow, and counts for them.
    if not hasattr(config, "workerinput"):
        descriptor, path = tempfile.mkstemp(prefix="tensorflow_processes")
        os.close(descriptor)
        config.tensorflow_processes = Path(path)
        os.environ["TEST_SESSION_FILE"] = path
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        import_tensorflow()
        forbid_processes(config)
        os.environ["TENSORFLOW_PROCESSES_FILE"] = os.environ["TEST_SESSION_FILE"]
        paths = [str(ROOT / "tests/process_counter"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


def import_tensorflow():
    """Imports TensorFlow and creates two logical CPUs for two replicas, before anything else of it runs."""
    import joblib

    runtime.import_tensorflow()

    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    joblib.parallel_config(backend="sequential")


def pytest_collection_finish():
    # TensorFlow creates so many objects that collecting garbage among them takes a tenth of the time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    may_start = {"e2e", "multiworker"} & {marker.name for marker in item.iter_markers()}
    item.config.stash[MAY_START_PROCESSES] = bool(may_start)
    return (yield)


def forbid_processes(config):
    """Makes tests fail that start another Python, which takes seconds, without being marked for it."""

    def hook(event, arguments):
        if event == "subprocess.Popen" and not config.stash.get(MAY_START_PROCESSES, True):
            command = [arguments[0], *arguments[1]]
            if any(os.path.basename(os.fsdecode(word)).startswith("python") for word in command if word):
                raise RuntimeError(f"only tests marked e2e or multiworker may start processes: {arguments[1]}")

    sys.addaudithook(hook)


def pytest_collection_modifyitems(items):
    def rank(item):
        path = item.path.relative_to(ROOT).as_posix()
        return next((i for i, prefix in enumerate(LONGEST_FILES) if path.startswith(prefix)), len(LONGEST_FILES))

    items.sort(key=rank)


def pytest_terminal_summary(terminalreporter, config):
    tests = config.tensorflow_processes.read_text().splitlines()
    terminalreporter.write_line(
        f"{len(tests)} processes that import TensorFlow were started, of {MAX_TENSORFLOW_PROCESSES} at most"
    )
    if len(tests) > MAX_TENSORFLOW_PROCESSES:
        terminalreporter.write_line("\n".join(tests))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    config = session.config
    if hasattr(config, "workerinput"):
        return
    too_many = len(config.tensorflow_processes.read_text().splitlines()) > MAX_TENSORFLOW_PROCESSES
    # Tests that are marked slow may start more.
    if too_many and "not slow" in config.option.markexpr and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config):
    if hasattr(config, "tensorflow_processes"):
        config.tensorflow_processes.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def mirrored():
    """Two replicas. One strategy for all tests: a second one on the same devices mixes up its sums with the first's."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture
def shared():
    if not SHARED.is_dir():
        pytest.skip(f"there is no real data in {SHARED.name}/ beside the project")
    return SHARED


@pytest.fixture
def tfds_dir(shared):
    return str(shared / "data" / "tfds")


@pytest.fixture
def random():
    import numpy as np

    return np.random.default_rng(0)


@pytest.fixture
def tiny():
    """The configuration of a model that is built and trained in a moment."""
    from cae.config import Config

    return Config(dataset="digits", latent_dim=4, base_filters=4, batch_size=8, epochs=1, noise="gaussian:0.5")


# --- A trained run ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run's folder, which is only read, and what train.py and eval.py returned: exit code, stdout and stderr."""

    workdir: Path
    trained: tuple[int, str, str]
    evaluated: tuple[int, str, str]

    def copy(self, workdir):
        """Returns a copy of the folder, which may be written to."""
        return Path(shutil.copytree(self.workdir, workdir))


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """Two epochs of configs/denoise.cfg on the bundled digits, evaluated; created once for all workers."""
    yield from create_once(tmp_path_factory, "trained_run", train_and_evaluate)


@pytest.fixture(scope="session")
def unet_run(tmp_path_factory):
    """An epoch of configs/unet.cfg on the bundled digits: a model without latent vectors."""
    yield from create_once(tmp_path_factory, "unet_run", train_unet)


def create_once(tmp_path_factory, name, create):
    """Yields a run that the first worker that needs it creates for all workers, and checks that no test wrote to it.

    Args:
      tmp_path_factory: pytest's.
      name: The name of the run's folder.
      create: Takes the folder, and returns what train.py and eval.py returned.
    """
    import json

    import filelock

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, results = root / name, root / f"{name}.json"
    with filelock.FileLock(root / f"{name}.lock"):
        if not results.exists():
            folder.mkdir()
            results.write_text(json.dumps(create(folder)))
    (workdir,) = (folder / "runs").iterdir()
    before = modification_times(workdir)
    yield TrainedRun(workdir, *map(tuple, json.loads(results.read_text())))
    assert modification_times(workdir) == before, f"a test wrote to {name}, which is shared"


def modification_times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def train_and_evaluate(folder):
    from cli import QUICK, QUICK_EVALUATION, call

    flags = (f"--flagfile={ROOT / 'configs/denoise.cfg'}", *QUICK)
    trained = call("train.py", *flags, "--epochs=2", folder=folder)
    assert trained[0] == 0, trained[2]
    options = ("--noise=gaussian:0.5,salt_pepper:0.2,none", "--outlier_datasets=fashion_mnist,digits")
    evaluated = call("eval.py", *flags, *options, *QUICK_EVALUATION, folder=folder)
    assert evaluated[0] == 0, evaluated[2]
    return trained, evaluated


def train_unet(folder):
    from cli import call

    flags = (f"--flagfile={ROOT / 'configs/unet.cfg'}", "--dataset=digits", "--base_filters=8", "--epochs=1")
    trained = call("train.py", *flags, folder=folder)
    assert trained[0] == 0, trained[2]
    return trained, (0, "", "")


@pytest.fixture(scope="session")
def digits():
    """The test images of the bundled digits."""
    from cae.config import Config
    from cae.data import datasets

    return datasets.open_dataset(Config(dataset="digits")).load("test")[0]


@pytest.fixture
def workspace(trained_run, tmp_path):
    """A folder to write to with a copy of the trained run at runs/denoise."""
    trained_run.copy(tmp_path / "runs/denoise")
    return tmp_path
