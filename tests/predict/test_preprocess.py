import numpy as np
import tifffile
from PIL import Image

from cae.data import image_io
from cae.predict.preprocess import preprocess

SHAPE = (12, 12, 1)


def resized(image, size, decode):
    return decode(np.asarray(Image.fromarray(image[..., 0]).resize(size)))


def test_an_image_of_the_models_shape_is_unchanged(normal, decode):
    result = preprocess(decode(normal[0, ..., 0]), SHAPE, 0.0, "auto")
    np.testing.assert_array_equal(result.image, normal[0])
    assert (result.steps, result.warnings) == ("", ())


def test_warnings_name_what_preprocessing_may_hide(normal, decode):
    large = preprocess(resized(normal[0], (36, 36), decode), SHAPE, 0.0, "auto")
    assert (large.steps, large.warnings) == ("36x36 to 12x12", ("downscaled 3.0 times: fine detail is lost",))
    small = preprocess(resized(normal[0], (4, 4), decode), SHAPE, 0.0, "auto")
    assert small.warnings == ("upscaled 3.0 times: it is blurred",)
    wide = preprocess(resized(normal[0], (24, 12), decode), SHAPE, 0.0, "auto")
    assert wide.steps == "24x12 to 12x12, padded" and "padded to another aspect ratio" in wide.warnings
    red = preprocess(decode(np.full((12, 12, 3), [200, 0, 0], np.uint8)), SHAPE, 0.0, "auto")
    assert (red.steps, red.warnings) == ("color to gray", ("color is lost",))


def test_negatives_are_inverted_unless_a_flag_says_never(normal, decode):
    for invert, image in {"auto": normal[0], "never": 255 - normal[0], "always": normal[0]}.items():
        result = preprocess(decode(255 - normal[0, ..., 0]), SHAPE, 0.0, invert)
        np.testing.assert_array_equal(result.image, image)
        assert ("inverted" in result.steps) == (invert != "never") == bool(result.warnings)


def test_bright_images_are_no_negatives_where_training_images_are_bright(normal, decode):
    assert preprocess(decode(255 - normal[0, ..., 0]), SHAPE, 1.0, "auto").steps == ""


def test_gray_backgrounds_are_not_inverted(decode):
    assert preprocess(decode(np.full((12, 12), 128, np.uint8)), SHAPE, 0.0, "auto").steps == ""


def test_orientation_of_a_photo_is_respected(tmp_path):
    values = np.zeros((12, 24), np.uint8)
    values[:, :12] = 255  # White on the left.
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by 90 degrees clockwise: white on top.
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    result = preprocess(image_io.read_image(tmp_path / "a.png"), (24, 12, 1), 0.5, "never")
    assert result.image[:12].min() == 255 and result.image[12:].max() == 0


def test_damaged_orientation_is_ignored(tmp_path):
    Image.fromarray(np.full((12, 12), 40, np.uint8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert (preprocess(image_io.read_image(tmp_path / "a.jpg"), SHAPE, 0.0, "never").image == 40).all()


def test_an_image_is_the_same_in_every_lossless_kind_of_file(tmp_path, normal):
    values, result = normal[0, ..., 0], {}
    deep, opaque = values.astype(np.uint16) * 257, np.full_like(values, 255)
    for name in ("a.png", "a.bmp", "a.gif", "a.pgm", "a.tif", "a.webp"):
        Image.fromarray(values).save(tmp_path / name, lossless=True)
    Image.fromarray(np.dstack([values] * 3 + [opaque])).save(tmp_path / "color.png")
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(np.dstack([0 * values] * 3 + [255 - values]), "CMYK").save(tmp_path / "inks.tif")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(values)).save(tmp_path / "turned.png", exif=exif)
    for name, stored in {
        "deep": deep, "float16": (values / 255).astype(np.float16), "float": values / 255, "wide": values * 257.0,
        "integers": values.astype(np.int32), "shifted": deep & 0xFF00,
    }.items():  # fmt: skip
        tifffile.imwrite(tmp_path / f"{name}.tif", stored)
    tifffile.imwrite(tmp_path / "inverted.tif", 65535 - deep, photometric="miniswhite", compression="lzw")
    planes = np.stack([deep] * 3)
    tifffile.imwrite(tmp_path / "planes.tif", planes, photometric="rgb", planarconfig="separate")
    for path in tmp_path.iterdir():
        result[path.name] = preprocess(image_io.read_image(path), SHAPE, 0.0, "never").image
    assert len(result) == 18
    assert {name for name, image in result.items() if not np.array_equal(image, normal[0])} == set()
