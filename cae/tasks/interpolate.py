"""Interpolation: what lies between two images, decoded from mixtures of their latent vectors, beside a pixel blend."""

import dataclasses
from collections.abc import Iterator, Mapping

import keras
import numpy as np

from cae.latents import mixing, paths
from cae.report.figures import Figure, curves, mosaic
from cae.report.page import Row, Section
from cae.tasks.classifier import Recogniser, can_learn
from cae.tasks.subject import Subject, chosen

BLEND = "pixel blend"

STRIPS = 3
"""Pairs of each kind that are shown."""

GRID_SIDE, RING_STEPS, JUDGED_IMAGES = 9, 12, 16
"""Images along a side of the grid; from one station of the ring to the next; of a path that a data set judges."""

AT_ONCE = 512

LOOKED_AT = 2000
"""Test images whose nearest training image says what distance is usual."""


def run(subject: Subject) -> Section:
    """Measures paths between test images: by each mixer of latent vectors, and by the blend of the pixels.

    For each kind of pair and each method: endpoint_mse, the error of the decoded ends; distance_ratio, the distance of
    what lies between the ends to the nearest training image, over that of real test images; confidence of a classifier
    and the labels that it saw on the way; smoothness, the largest step over the mean step.
    """
    asked, model, (images, labels) = subject.interpolation, subject.trained.model, subject.read("test")
    yardstick, rows, by_degree, lines = Yardstick.of(subject), [], [], {}
    for kind, positions in paths.pairs(labels, len(subject.class_names), asked.pairs, asked.seed).items():
        ends = images[positions].astype(np.float32) / 255
        between = ways(model, ends, asked.degrees)
        for method, each in between.items():
            measured = yardstick.measure(each, ends, asked.degrees)
            rows.append({"pairs": kind, "method": method} | _summary(measured, asked.degrees))
            by_degree += [{"pairs": kind, "method": method} | row for row in _by_degree(measured, asked.degrees)]
        lines |= _strips(kind, ends, between)
    known = _judged(subject)
    figures, animation = surfaces(model, images[_stations(subject)].astype(np.float32) / 255)
    strips = mosaic(lines, ["start", *(f"{degree:.4g}" for degree in asked.degrees), "end"])
    return Section(
        name="interpolate",
        title="Interpolation",
        headline=_headline(rows, by_degree, known),
        results={
            "degrees": asked.degrees.tolist(),
            "usual_distance": yardstick.distance,
            "usual_confidence": yardstick.confidence,
            **shares(by_degree),
            **known,
            "methods": rows,
        },
        figures={"interpolate": ("Between two test images, which stand at either end", strips)}
        | figures
        | _curves(by_degree, yardstick),
        animations={"interpolate_ring": ("Through one image after another, and back to the first", animation)},
        tables={"interpolate": rows, "interpolate_by_degree": by_degree},
        shown={
            "interpolate": (
                "Means over all pairs; distance_ratio and confidence are of what lies between the ends. A ratio of 1 is"
                " as far from the training images as real test images are"
            )
        },
    )


def decode(model: keras.Model, latents: np.ndarray) -> np.ndarray:
    """Returns the images [..., h, w, c] of latent vectors [..., d], in 0..1."""
    flat = latents.reshape(-1, latents.shape[-1]).astype(np.float32)
    images = [model.decode(flat[first : first + AT_ONCE]).numpy() for first in range(0, len(flat), AT_ONCE)]
    images = np.concatenate(images)
    return images.reshape(*latents.shape[:-1], *images.shape[1:])


def encode(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Returns the latent vectors [..., d] of images [..., h, w, c] in 0..1."""
    flat = images.reshape(-1, *images.shape[-3:])
    latents = [model.encode(flat[first : first + AT_ONCE]).numpy() for first in range(0, len(flat), AT_ONCE)]
    latents = np.concatenate(latents)
    return latents.reshape(*images.shape[:-3], latents.shape[-1])


def ways(model: keras.Model, ends: np.ndarray, degrees: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the paths [n, degrees, h, w, c] between images [n, 2, h, w, c] of every method, by name."""
    latents = encode(model, ends)
    found = {
        name: decode(model, mixing.path(latents[:, 0], latents[:, 1], degrees, mixer))
        for name, mixer in mixing.MIXERS.items()
    }
    flat = ends.reshape(*ends.shape[:2], -1)
    blend = mixing.path(flat[:, 0], flat[:, 1], degrees).astype(np.float32)
    return found | {BLEND: blend.reshape(*blend.shape[:2], *ends.shape[2:])}


@dataclasses.dataclass(frozen=True)
class Yardstick:
    """What paths are measured by: training images, a classifier where there are classes, and what is usual for both.

    distance: the mean Euclidean distance of test images to the nearest training image; confidence: the classifier's
    mean certainty about test images.
    """

    nearest: paths.Nearest
    recogniser: Recogniser | None
    distance: float
    confidence: float | None

    @classmethod
    def of(cls, subject: Subject) -> "Yardstick":
        """Returns the yardstick of a data set, the same for every model."""
        images, labels = subject.read("train")
        test = subject.read("test")[0][:LOOKED_AT].astype(np.float32) / 255
        nearest = paths.Nearest(images)
        recogniser = Recogniser(images, labels) if can_learn(labels, subject.class_names) else None
        confidence = float(recogniser.recognise(test)[1].mean()) if recogniser else None
        return cls(nearest, recogniser, float(nearest.distances(test).mean()), confidence)

    def measure(self, between: np.ndarray, ends: np.ndarray, degrees: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what is found on paths [n, degrees, h, w, c] between ends [n, 2, h, w, c], by name.

        distance_ratio, confidence: [n, degrees]; labels, smoothness: [n]; error, of the first and the last image
        against the real ones: [n, 2], at degrees 0 and 1 alone.
        """
        found = {
            "distance_ratio": self.nearest.distances(between) / max(self.distance, 1e-12),
            "smoothness": paths.smoothness(between, degrees),
        }
        if degrees[0] == 0 and degrees[-1] == 1:
            found["endpoint_mse"] = ((between[:, [0, -1]] - ends) ** 2).mean(axis=(2, 3, 4))
        if self.recogniser:
            labels, found["confidence"] = self.recogniser.recognise(between)
            found["labels"] = paths.labels_passed(labels)
        return found


def inner(degrees: np.ndarray) -> np.ndarray:
    """Returns which degrees lie between the ends: bool [n], all where none does."""
    between = (degrees > 0) & (degrees < 1)
    return between if between.any() else ~between


def _summary(measured: Mapping[str, np.ndarray], degrees: np.ndarray) -> Row:
    """Returns the mean of each measure, of what lies between the ends where it has a value for each degree."""
    by_degree = ("distance_ratio", "confidence")
    return {
        name: float((values[:, inner(degrees)] if name in by_degree else values).mean())
        for name, values in measured.items()
    }


def _by_degree(measured: Mapping[str, np.ndarray], degrees: np.ndarray) -> Iterator[Row]:
    for position, degree in enumerate(degrees):
        yield {"degree": float(degree)} | {
            name: float(measured[name][:, position].mean())
            for name in ("distance_ratio", "confidence")
            if name in measured
        }


def shares(by_degree: list[Row]) -> dict[str, float]:
    """Returns at how many of the degrees between the ends the linear path does better than the pixel blend, as shares.

    Between images of different classes, where there are such. below_blend: it is nearer to the training images;
    closer_than_blend: its distance ratio is nearer to 1, that of real images, which a blurred image may fall short of.
    """
    kind = by_degree[-1]["pairs"]
    ratios = {
        method: [row["distance_ratio"] for row in by_degree if (row["pairs"], row["method"]) == (kind, method)]
        for method in ("linear", BLEND)
    }
    degrees = np.unique([row["degree"] for row in by_degree])
    ours, blend = (np.array(ratios[method])[inner(degrees)] for method in ("linear", BLEND))
    closer = np.abs(ours - 1) < np.abs(blend - 1)
    return {"below_blend": float(np.mean(ours < blend)), "closer_than_blend": float(np.mean(closer))}


def _judged(subject: Subject) -> dict[str, float]:
    """Returns what the data set itself says of linear paths between its test images, where it can tell."""
    asked, (images, labels) = subject.interpolation, subject.read("test")
    if asked.judge is None:
        return {}
    positions = paths.pairs(labels, 0, asked.pairs, asked.seed)["any"]
    ends = images[positions].astype(np.float32) / 255
    between = ways(subject.trained.model, ends, np.linspace(0, 1, JUDGED_IMAGES))
    return {name: value for name, value in asked.judge(between["linear"]).items() if value is not None}


def _headline(rows: list[Row], by_degree: list[Row], known: Mapping[str, float]) -> str:
    kind = rows[-1]["pairs"]
    ours, blend = (
        next(row for row in rows if (row["pairs"], row["method"]) == (kind, name)) for name in ("linear", BLEND)
    )
    parts = [
        f"interpolate between images ({kind}): {ours['distance_ratio']:.3f} as far from training images as real ones"
        f" (pixel blend: {blend['distance_ratio']:.3f}; less at {shares(by_degree)['below_blend']:.0%} of the degrees)"
    ]
    told = {name: ours[name] for name in ("endpoint_mse", "confidence", "smoothness") if name in ours} | dict(known)
    return ", ".join(parts + [f"{name.replace('_', ' ')} {value:.4g}" for name, value in told.items()])


def _strips(kind: str, ends: np.ndarray, between: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns lines of images, by name, for some pairs: the real ends outside, what each method makes inside."""
    return {
        f"{kind} {pair + 1}: {method}": np.concatenate([ends[pair, :1], images[pair], ends[pair, 1:]])
        for pair in range(min(STRIPS, len(ends)))
        for method, images in between.items()
    }


def _stations(subject: Subject) -> np.ndarray:
    """Returns positions of the test images that a ring goes through: the first of each class, or the first few."""
    return chosen(dataclasses.replace(subject, max_examples=max(len(subject.class_names), 4)))[:12]


def surfaces(model: keras.Model, images: np.ndarray) -> tuple[dict[str, tuple[str, Figure]], np.ndarray]:
    """Returns pictures of what lies between many images [n, h, w, c] in 0..1, and the images along a ring.

    The grid has the first four in its corners, where there are as many; the ring goes through all of them.
    """
    latents = encode(model, images)
    figures = {}
    if len(images) >= 4:
        shown = decode(model, mixing.grid(latents[:4], GRID_SIDE))
        figures["interpolate_grid"] = ("Between four images, one in each corner", mosaic(dict(enumerate(shown))))
    around = decode(model, mixing.ring(latents, RING_STEPS))
    caption = "Round a ring through several images: a line leads from one to the next"
    lines = around.reshape(len(images), RING_STEPS, *images.shape[1:])
    following = np.roll(images, -1, axis=0)
    lines = {n: np.concatenate([images[[n]], line, following[[n]]]) for n, line in enumerate(lines)}
    figures["interpolate_ring"] = (caption, mosaic(lines, ["from", *[""] * RING_STEPS, "to"]))
    return figures, around


def _curves(by_degree: list[Row], yardstick: Yardstick) -> dict[str, tuple[str, Figure]]:
    """Returns a figure for each measure that has a value for every degree of mixing."""
    usual = {"distance_ratio": 1.0, "confidence": yardstick.confidence}
    captions = {
        "distance_ratio": "Distance to the nearest training image, over that of real test images",
        "confidence": "How certain a classifier is of what it sees",
    }
    degrees = [row["degree"] for row in by_degree]
    figures = {}
    for name in (name for name in captions if name in by_degree[0]):
        lines = {}
        for row in by_degree:
            lines.setdefault(f"{row['pairs']}: {row['method']}", []).append((row["degree"], row[name]))
        lines["test images"] = [(degree, usual[name]) for degree in (min(degrees), max(degrees))]
        figures[f"interpolate_{name}"] = (captions[name], curves(lines, "degree of mixing", name.replace("_", " ")))
    return figures
