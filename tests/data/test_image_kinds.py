"""Every kind of image file is read as it was written, and one that is damaged is refused in one line."""

import collections
import dataclasses
import io
import re

import imagecodecs
import numpy as np
import pytest
from cli import ROOT
from image_cases import all_cases
from PIL import Image

from cae.data.decoded_image import UnreadableImageError
from cae.data.image_io import read_image

CASES = all_cases()

# Of docs/datasets.md: format, number of kinds, damaged files, of these refused, as written, with a warning, changed.
DOCUMENTED = [
    tuple(int(word) if word.isdecimal() else word for word in row.replace(",", "").strip("| ").split(" | "))
    for row in re.findall(r"^\| [A-Z]+ \|(?: [\d,]+ \|){6}$", (ROOT / "docs/datasets.md").read_text(), re.MULTILINE)
]

NUM_CUTS = NUM_FLIPS = 10

WITHOUT_SECOND_DECODER = ("jpegxl", "group3", "group4", "ccitt", "GIF")
"""Kinds of which decoders differ in what they make of damaged data, or that only one decodes."""

UPRIGHT = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
"""What each of Exif's orientations means, by its definition: where the first row and the first column are shown."""


@pytest.fixture
def read(tmp_path):
    def read(content):
        path = tmp_path / "image"
        path.write_bytes(content)
        return read_image(path)

    return read


def to_floats(decoded):
    return np.stack([decoded.to_float(channel) for channel in range(decoded.channels.shape[2])], axis=-1)


def find_difference(decoded, case):
    """Returns what differs between an image that was read and what its file contains; None for the same."""
    if decoded.channels.shape != case.channels.shape:
        return f"shape {decoded.channels.shape}"
    if (error := np.abs(to_floats(decoded) - case.channels).max()) > case.tolerance:
        return f"error {error}"
    if (decoded.alpha is None) != (case.alpha is None):
        return "alpha"
    if case.alpha is not None and np.abs(decoded.alpha.astype(int) - case.alpha).max() > 1:
        return "values of alpha"
    return None if decoded.orientation == case.orientation else f"orientation {decoded.orientation}"


def test_every_kind_is_read_as_it_was_written_and_warns_only_where_it_guesses(read):
    failures = {}
    for name, case in CASES.items():
        decoded = read(case.content)
        if (difference := find_difference(decoded, case)) or bool(decoded.warnings) != case.is_guessed:
            failures[name] = (difference, decoded.warnings)
    assert not failures and len(CASES) > 150


def test_every_kind_is_shown_upright_in_eight_bits(read):
    for name, case in CASES.items():
        if case.alpha is None and case.channels.shape[2] != 4:
            shown = np.asarray(read(case.content).to_pil(), np.float64) / 255
            expected = UPRIGHT[case.orientation](case.channels)
            # Of 16 bits the upper 8 are shown.
            assert np.abs(shown.reshape(expected.shape) - expected).max() <= max(case.tolerance, 1 / 255), name


def test_every_kind_is_written_back_as_it_was(read, tmp_path):
    for name, case in CASES.items():
        before = read(case.content)
        channels = [before.from_float(before.to_float(channel)) for channel in range(before.channels.shape[2])]
        before.save(tmp_path / "saved", np.stack(channels, axis=-1))
        after = read_image(tmp_path / "saved")
        if name.startswith("GIF"):  # Pillow reads grays as a palette or as gray, as they are ordered.
            before, after = (np.asarray(image.to_pil().convert("RGB")) for image in (before, after))
            np.testing.assert_array_equal(after, before, name)
            continue
        for attribute in ("format", "mode", "orientation", "black", "white", "warnings"):
            assert getattr(before, attribute) == getattr(after, attribute), (name, attribute)
        assert find_difference(after, case) is None or case.tolerance > 0.01, name


# --- Damaged files ----------------------------------------------------------------------------------------------------


def damage(content):
    """Yields (kind, content) of files that are cut at ten places, and of which one byte in ten places is flipped."""
    for index in range(NUM_CUTS):
        yield "cut", content[: 1 + index * len(content) // NUM_CUTS]
    for index in range(NUM_FLIPS):
        changed = bytearray(content)
        changed[(2 * index + 1) * len(content) // (2 * NUM_FLIPS)] ^= 0xFF
        yield "flip", bytes(changed)


def test_damaged_files_are_refused_or_read_as_they_are(read):
    """A flipped byte can't be noticed in formats without a checksum: the file then says that the image is another."""
    outcomes = collections.defaultdict(collections.Counter)
    for name, case in CASES.items():
        warnings = read(case.content).warnings
        for kind, content in damage(case.content):
            try:
                outcome = describe(name, case, warnings, content, read(content))
            except UnreadableImageError as error:
                outcome = "refused"
                assert str(error) and "\n" not in str(error), name
            assert outcome != "wrong", (name, kind)
            assert outcome != "changed" or (kind == "flip" and not name.startswith("PNG")), (name, kind)
            outcomes[name.split()[0]][outcome] += 1
    assert sum(counts.total() for counts in outcomes.values()) == 20 * len(CASES) > 3000
    assert [table_row(name, counts) for name, counts in sorted(outcomes.items())] == DOCUMENTED


def describe(name, case, warnings, content, decoded):
    """Returns what was read of a damaged file, and of the intact one with some warnings.

    Returns:
      'same' as was written; 'warned' of damage; 'changed', what the file says now: single values, or an image as
      another decoder reads it; 'wrong' for anything else.
    """
    difference = find_difference(decoded, case)
    if not difference or decoded.warnings != warnings:
        return "warned" if difference else "same"
    if difference.startswith("error"):
        is_changed = np.abs(to_floats(decoded) - case.channels) > case.tolerance
        if is_changed.sum() <= 4:
            return "changed"
    if any(kind in name for kind in WITHOUT_SECOND_DECODER):
        return "changed"
    expected = read_independently(name, content)
    if expected is None:
        return "wrong"
    orientation = decoded.orientation if name.startswith("TIFF") else 1
    image = dataclasses.replace(decoded, alpha=None, orientation=orientation).to_pil().convert("RGB")
    same_size = expected.shape[:2] == (image.height, image.width)
    return "changed" if same_size and np.abs(expected - np.asarray(image, int)).max() <= 2 else "wrong"


def read_independently(name, content):
    """Returns an image by a decoder that the reader does not use for this format, [height, width, 3] in 8 bits."""
    decoders = {"JPEG": imagecodecs.jpeg8_decode, "WEBP": imagecodecs.webp_decode}
    try:
        if "CMYK" not in name and (decode := decoders.get(name.split()[0])):
            values = decode(content)
        else:
            with Image.open(io.BytesIO(content)) as image:
                values = np.asarray(image.convert("RGB"))
    except Exception:  # noqa: BLE001 - Decoders raise errors of many classes.
        return None
    values = values.reshape(*values.shape[:2], -1)[..., :3].astype(int)
    return np.repeat(values, 3, axis=-1) if values.shape[-1] == 1 else values


def table_row(name, counts):
    columns = [counts.total() // (NUM_CUTS + NUM_FLIPS), counts.total()]
    return (name, *columns, *(counts[outcome] for outcome in ("refused", "same", "warned", "changed")))
