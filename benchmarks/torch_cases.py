"""The cases of PyTorch: training step and forward pass, with the same architecture, batch size, data and noise."""

import contextlib
from collections.abc import Callable

import torch
import torch._dynamo  # Before TensorFlow, after whose import this one crashed with PyTorch 2.14.

from benchmarks.torch_model import ConvAutoencoder
from cae.config import Config
from cae.data import datasets, noise
from cae.errors import UserError

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def train(
    config: Config,
    dataset: datasets.ImageDataset,
    *,
    fused: bool = False,
    compiled: bool = False,
    bfloat16: bool = False,
) -> Callable[[int], None]:
    """Returns a function that takes training steps: Adam on the mean squared error.

    Args:
      config: The configuration; its model must be `conv`, its loss `mse`.
      dataset: The data set.
      fused: Whether Adam updates all weights in one kernel, and images and kernels are in channels-last format.
      compiled: Whether `torch.compile` compiles the forward pass and its gradient.
      bfloat16: Whether layers compute in bfloat16.
    """
    if config.model != "conv" or config.loss != "mse":
        raise UserError("PyTorch's step needs --model=conv and --loss=mse")
    memory_format = torch.channels_last if fused else torch.contiguous_format
    model = build_model(config, dataset, memory_format)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, betas=(0.9, 0.99), fused=fused)
    sample_batch = make_sampler(config, dataset, memory_format)

    def loss_fn(clean: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        with torch.autocast(DEVICE, torch.bfloat16) if bfloat16 else contextlib.nullcontext():
            output = model(noisy)
        return torch.mean(torch.square(output.float() - clean))

    loss_fn = torch.compile(loss_fn) if compiled else loss_fn

    def run(num_steps: int) -> None:
        for _ in range(num_steps):
            clean, noisy = sample_batch()
            optimizer.zero_grad(set_to_none=True)
            loss = loss_fn(clean, noisy)
            loss.backward()
            optimizer.step()
        loss.item()

    return run


def forward(config: Config, dataset: datasets.ImageDataset) -> Callable[[int], None]:
    """Returns a function that passes a number of batches through the model."""
    model = build_model(config, dataset, torch.channels_last)
    _, noisy = make_sampler(config, dataset, torch.channels_last)()

    def run(num_steps: int) -> None:
        with torch.inference_mode():
            for _ in range(num_steps):
                output = model(noisy)
        output[0, 0, 0, 0].item()

    return run


def build_model(config: Config, dataset: datasets.ImageDataset, memory_format: torch.memory_format) -> ConvAutoencoder:
    """Returns the configuration's model on the device."""
    model = ConvAutoencoder(dataset.image_shape, config.latent_dim, config.base_filters)
    return model.to(DEVICE, memory_format=memory_format)


def make_sampler(
    config: Config, dataset: datasets.ImageDataset, memory_format: torch.memory_format
) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """Returns a function that samples a batch of clean and noisy images, [batch, channels, height, width] in 0..1."""
    images = torch.from_numpy(dataset.load("train")[0]).permute(0, 3, 1, 2).to(DEVICE)
    level = parse_gaussian_level(config.noise)

    def sample() -> tuple[torch.Tensor, torch.Tensor]:
        indices = torch.randint(len(images), (config.batch_size,), device=DEVICE)
        clean = images[indices].to(torch.float32, memory_format=memory_format) / 255
        noisy = (clean + level * torch.randn_like(clean)).clamp(0, 1) if level else clean
        return clean, noisy

    return sample


def parse_gaussian_level(text: str | None) -> float:
    """Returns the standard deviation of --noise, 0 for None; raises `UserError` for other noise than Gaussian."""
    one_of = noise.parse_noise(text)
    if one_of is None:
        return 0.0
    steps = [step for alternative in one_of.alternatives for step in alternative]
    if len(steps) != 1 or steps[0].name != "gaussian" or steps[0].low != steps[0].high:
        raise UserError(f"PyTorch's step needs Gaussian noise of one level, not --noise={text}")
    return steps[0].low
