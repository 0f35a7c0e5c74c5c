"""What several tests need: two devices on one CPU, and the real data where it lies beside the project."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cae.config import Config

SHARED = Path(__file__).resolve().parents[2] / "shared"

# Two logical CPUs make two replicas; this has to come before anything else of TensorFlow runs.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(scope="session")
def mirrored():
    """Two replicas. One for all tests: a second strategy on the same devices mixes up its sums with the first one's."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture
def shared():
    if not SHARED.is_dir():
        pytest.skip(f"real data is not beside the project, in {SHARED.name}/")
    return SHARED


@pytest.fixture
def tfds_dir(shared):
    return str(shared / "data" / "tfds")


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def tiny():
    """Settings of a model that builds and trains in no time."""
    return Config(dataset="digits", latent_dim=4, width=4, batch_size=8, epochs=1, noise="gaussian:0.5")
