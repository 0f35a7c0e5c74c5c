"""Convolutional autoencoders: denoising, interpolation and outlier detection."""

import os

# TensorFlow reads this once, at import. Its notices on CPU features and absent GPUs would hide what programs say; what
# goes wrong is raised as an exception all the same.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
