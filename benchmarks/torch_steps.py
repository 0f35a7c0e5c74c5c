"""PyTorch's training step and forward pass, on the same architecture, batch, data and noise."""

import contextlib
from collections.abc import Callable

import torch

from benchmarks.torch_conv import ConvAutoencoder
from cae import config
from cae.data import noise, sources
from cae.errors import UserError

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Batches:
    """Random batches of training images in 0..1, on the device, and the same with Gaussian noise, clipped."""

    def __init__(self, settings: config.Config, source: sources.Source, memory_format: torch.memory_format):
        self.images = torch.from_numpy(source.read("train")[0]).permute(0, 3, 1, 2).to(DEVICE)
        self.size, self.memory_format, self.level = settings.batch_size, memory_format, level_of(settings.noise)

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns clean and noisy images [batch, channels, height, width]."""
        indices = torch.randint(len(self.images), (self.size,), device=DEVICE)
        clean = self.images[indices].to(torch.float32, memory_format=self.memory_format) / 255
        noisy = (clean + self.level * torch.randn_like(clean)).clamp(0, 1) if self.level else clean
        return clean, noisy


def level_of(text: str | None) -> float:
    """Returns the standard deviation of the noise that a text names, 0 for none; no other noise is known here."""
    recipe = noise.parse(text)
    if recipe is None:
        return 0.0
    stages = [stage for way in recipe.alternatives for stage in way]
    if len(stages) != 1 or stages[0].name != "gaussian" or stages[0].low != stages[0].high:
        raise UserError(f"PyTorch's step knows Gaussian noise of one level alone, not --noise={text}")
    return stages[0].low


def training(
    settings: config.Config,
    source: sources.Source,
    *,
    channels_last: bool = False,
    fused: bool = False,
    compiled: bool = False,
    bfloat16: bool = False,
) -> Callable[[int], None]:
    """Returns what takes so many training steps: Adam on the mean squared error, with PyTorch's usual means."""
    if settings.model != "conv" or settings.loss != "mse":
        raise UserError("PyTorch's step is for --model=conv and --loss=mse alone")
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    model = ConvAutoencoder(source.image_shape, settings.latent_dim, settings.width)
    model = model.to(DEVICE, memory_format=memory_format)
    optimizer = torch.optim.Adam(model.parameters(), settings.learning_rate, betas=(0.9, 0.99), fused=fused)
    batches = Batches(settings, source, memory_format)

    def loss_of(clean: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        with precision(bfloat16):
            output = model(noisy)
        return torch.mean(torch.square(output.float() - clean))

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def run(steps: int) -> None:
        for _ in range(steps):
            clean, noisy = batches.draw()
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(clean, noisy)
            loss.backward()
            optimizer.step()
        loss.item()

    return run


def forward(settings: config.Config, source: sources.Source) -> Callable[[int], None]:
    """Returns what passes so many batches through the model, and no more."""
    model = ConvAutoencoder(source.image_shape, settings.latent_dim, settings.width)
    model = model.to(DEVICE, memory_format=torch.channels_last)
    _, noisy = Batches(settings, source, torch.channels_last).draw()

    def run(steps: int) -> None:
        with torch.inference_mode():
            for _ in range(steps):
                output = model(noisy)
        output[0, 0, 0, 0].item()

    return run


def precision(bfloat16: bool) -> contextlib.AbstractContextManager:
    """Returns what makes layers compute in bfloat16, or nothing."""
    return torch.autocast(DEVICE, torch.bfloat16) if bfloat16 else contextlib.nullcontext()
