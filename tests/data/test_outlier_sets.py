import dataclasses

import numpy as np
import pytest
from PIL import Image

from cae.data import datasets, image_folder, outlier_sets, tfds, tfds_builder
from cae.errors import UserError

RANDOM = ["uniform_noise", "shuffled_blocks", "missing_square", "overlaid"]
CONSTANT = {"black": 0, "gray": 128, "white": 255}


@pytest.fixture
def squares():
    """Images of a bright square with a ramp on a dark background, without repeated parts."""
    images = np.full([12, 16, 16, 1], 20, np.uint8)
    for number, image in enumerate(images):
        image[3 + number % 6 : 9 + number % 6, 2 + number : 5 + number] = 150 + 3 * number
        image[4:12, 4:12] += np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    return images


@pytest.fixture
def noise_images(random):
    return random.integers(0, 256, (6, 15, 18, 3), np.uint8)


# --- Synthetic outliers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", outlier_sets.OUTLIERS)
def test_outliers_have_the_shape_of_inliers_and_inliers_are_unchanged(name, squares):
    before = squares.copy()
    found = outlier_sets.make_outliers(name, squares, 0)
    assert found.dtype == np.uint8 and found.shape == (1 if name in CONSTANT else 12, 16, 16, 1)
    found = found.copy()
    found[:] = 7
    np.testing.assert_array_equal(squares, before)
    assert not np.array_equal(outlier_sets.make_outliers(name, squares, 0), squares)


@pytest.mark.parametrize("name", outlier_sets.OUTLIERS)
def test_color_images_that_are_not_square_are_supported(name, noise_images):
    found = outlier_sets.make_outliers(name, noise_images, 0)
    count = {"quarter_turn": 0} | dict.fromkeys(CONSTANT, 1)
    assert found.dtype == np.uint8 and found.shape == (count.get(name, 6), 15, 18, 3)


@pytest.mark.parametrize("name", outlier_sets.OUTLIERS)
def test_single_image_is_enough(name, squares):
    assert outlier_sets.make_outliers(name, squares[:1], 0).shape == (1, 16, 16, 1)


@pytest.mark.parametrize("name", outlier_sets.OUTLIERS)
def test_outliers_depend_on_the_seed_only_where_they_are_random(name, squares):
    first = outlier_sets.make_outliers(name, squares, 3)
    np.testing.assert_array_equal(first, outlier_sets.make_outliers(name, squares, 3))
    others = [np.array_equal(first, outlier_sets.make_outliers(name, squares, seed)) for seed in range(4, 12)]
    # The random shift of few images may repeat.
    assert not all(others) if name in RANDOM else all(others)


def test_noise_values_are_uniformly_distributed():
    found = outlier_sets.make_outliers("uniform_noise", np.zeros([100, 32, 32, 1], np.uint8), 0)
    # 400 of each value are expected, with a standard deviation of 20.
    assert np.abs(np.bincount(found.reshape(-1), minlength=256) - 400).max() < 100


@pytest.mark.parametrize("name, value", CONSTANT.items())
def test_constant_set_has_one_image(name, value, noise_images):
    np.testing.assert_array_equal(outlier_sets.make_outliers(name, noise_images, 0), np.full([1, 15, 18, 3], value))


@pytest.mark.parametrize("name", ["inverted", "left_right", "up_down"])
def test_inversion_and_flips_are_involutions(name, noise_images):
    once = outlier_sets.make_outliers(name, noise_images, 0)
    assert not np.array_equal(once, noise_images)
    np.testing.assert_array_equal(outlier_sets.make_outliers(name, once, 0), noise_images)


def test_flips_and_rotation_move_a_corner_as_documented():
    image = np.zeros([1, 12, 12, 1], np.uint8)
    image[0, 0, 0] = 200
    corners = {"left_right": (0, 11), "up_down": (11, 0), "quarter_turn": (11, 0)}
    for name, corner in corners.items():
        assert np.argwhere(outlier_sets.make_outliers(name, image, 0)[0, :, :, 0]).tolist() == [list(corner)]
    # The second corner distinguishes rotation from reflection.
    image[0, 0, 11] = 100
    assert outlier_sets.make_outliers("quarter_turn", image, 0)[0, 0, 0] == 100
    inverted = outlier_sets.make_outliers("inverted", image, 0)[0, ..., 0]
    assert inverted[0, 0] == 55 and inverted[0, 11] == 155 and inverted[5, 5] == 255


def test_four_quarter_turns_are_the_identity(squares):
    rotated = squares
    for _ in range(4):
        rotated = outlier_sets.make_outliers("quarter_turn", rotated, 0)
    np.testing.assert_array_equal(rotated, squares)


@pytest.mark.parametrize("sides", [(16, 16), (17, 22)])
def test_shuffled_blocks_are_a_permutation_of_the_blocks(random, sides):
    images = random.integers(0, 256, (20, *sides, 3), np.uint8)
    found = outlier_sets.make_outliers("shuffled_blocks", images, 0)
    down, across = sides[0] // 4, sides[1] // 4
    for before, after in zip(images, found):
        blocks = [
            sorted(
                image[row : row + down, column : column + across].tobytes()
                for row in range(0, 4 * down, down)
                for column in range(0, 4 * across, across)
            )
            for image in (before, after)
        ]
        assert blocks[0] == blocks[1]
        assert not np.array_equal(before, after)
    # Rows and columns that are left over stay.
    np.testing.assert_array_equal(found[:, 4 * down :], images[:, 4 * down :])
    np.testing.assert_array_equal(found[:, :, 4 * across :], images[:, :, 4 * across :])


def test_each_image_is_shuffled_in_its_own_way():
    images = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), 10, axis=0)
    assert len({image.tobytes() for image in outlier_sets.make_outliers("shuffled_blocks", images, 0)}) == 10


def test_missing_square_replaces_foreground_by_background(squares):
    found = outlier_sets.make_outliers("missing_square", squares, 0)
    for before, after in zip(squares[..., 0], found[..., 0]):
        rows, columns = np.nonzero(before != after)
        assert len(rows) and (after[rows, columns] == 20).all()
        # 0.3 of 16 are 5.
        assert np.ptp(rows) < 5 and np.ptp(columns) < 5
        assert (before[rows, columns].astype(int) - 20 > 64).any()


def test_missing_square_of_bright_images_is_bright(squares):
    found = outlier_sets.make_outliers("missing_square", 255 - squares, 0)
    changed = found != 255 - squares
    assert changed.any(axis=(1, 2, 3)).all() and (found[changed] == 235).all()


def test_missing_square_has_the_color_of_the_background():
    images = np.tile(np.array([10, 120, 230], np.uint8), (3, 20, 20, 1))
    images[:, 6:14, 6:14] = [200, 120, 40]
    found = outlier_sets.make_outliers("missing_square", images, 0)
    changed = (found != images).any(axis=-1)
    # 0.3 of 20 are 6; at the edge of the foreground less than the whole square changes.
    assert all(9 <= count <= 36 for count in changed.sum(axis=(1, 2)))
    assert (found[changed] == [10, 120, 230]).all()


def test_missing_square_keeps_constant_images():
    images = np.full([2, 12, 12, 1], 33, np.uint8)
    np.testing.assert_array_equal(outlier_sets.make_outliers("missing_square", images, 0), images)


def test_overlaid_image_is_the_maximum_of_two_images(squares):
    for seed in range(10):
        found = outlier_sets.make_outliers("overlaid", squares, seed)
        assert (found >= squares).all() and not any(map(np.array_equal, found, squares))
        # The other image is at the same offset for all of them.
        shifts = [shift for shift in range(1, 12) if (found >= np.roll(squares, shift, axis=0)).all()]
        assert len(shifts) == 1
        np.testing.assert_array_equal(found, np.maximum(squares, np.roll(squares, shifts[0], axis=0)))


# --- Other data sets ------------------------------------------------------------------------------------------------


def test_digits_are_resized_and_limited_to_max_images():
    found, skipped = outlier_sets.load_outlier_datasets(["digits"], None, (20, 24, 3), 7)
    assert found.keys() == {"digits"} and skipped == {}
    assert found["digits"].shape == (7, 20, 24, 3) and found["digits"].dtype == np.uint8
    # The digits are 28x28 and keep their aspect ratio: 20x20, and two columns of background on either side.
    assert not found["digits"][:, :, [0, 1, -2, -1]].any() and found["digits"].any(axis=(1, 2, 3)).all()


def test_lines_are_resized(few_lines):
    found, _ = outlier_sets.load_outlier_datasets(["lines"], None, (28, 28, 1), 5)
    assert found["lines"].shape == (5, 28, 28, 1) and found["lines"].any(axis=(1, 2, 3)).all()


def test_digits_are_those_of_the_test_split():
    found, _ = outlier_sets.load_outlier_datasets(["digits"], None, (28, 28, 1), 10_000)
    expected = datasets.open_dataset(datasets.Config(dataset="digits")).load("test")[0]
    np.testing.assert_array_equal(found["digits"], expected)


def test_images_of_a_folder_are_resized(tmp_path, random):
    for number in range(5):
        Image.fromarray(random.integers(0, 256, (30, 40, 3), np.uint8)).save(tmp_path / f"{number}.png")
    name = f"folder:{tmp_path}"
    found, skipped = outlier_sets.load_outlier_datasets([name], None, (16, 16, 1), 3)
    assert skipped == {}
    np.testing.assert_array_equal(found[name], image_folder.load_images(tmp_path, (16, 16, 1), 3)[0])
    assert len(outlier_sets.load_outlier_datasets([name], None, (16, 16, 1), 100)[0][name]) == 5


def test_unreadable_files_of_a_folder_are_named(tmp_path):
    for number in range(3):
        Image.new("L", (16, 16), 50).save(tmp_path / f"{number}.png")
    (tmp_path / "bad.png").touch()
    (found,), (reason,) = (
        part.values() for part in outlier_sets.load_outlier_datasets([f"folder:{tmp_path}"], None, (16, 16, 1), 9)
    )
    assert len(found) == 3 and reason == "1 files that cannot be read: bad.png"
    outliers = {"hole": lambda max_images: (found[:max_images], ["a\udce9.png"])}
    dataset = dataclasses.replace(datasets.open_dataset(datasets.Config(dataset="digits")), outliers=outliers)
    loaded, skipped = outlier_sets.load_class_outliers(dataset, 2)
    assert len(loaded["hole"]) == 2 and skipped == {"hole": "1 files that cannot be read: a\\udce9.png"}


def test_unavailable_data_set_is_skipped_with_the_reason(monkeypatch):
    def unreachable(name, data_dir):
        raise tfds_builder.DatasetUnavailableError(
            f"--dataset={name} is not prepared in {data_dir}, and its host cannot be reached"
        )

    monkeypatch.setattr(tfds_builder, "get_builder", unreachable)
    found, skipped = outlier_sets.load_outlier_datasets(["emnist", "digits"], "/nowhere", (28, 28, 1), 2)
    assert found.keys() == {"digits"}
    assert skipped == {"emnist": "not prepared in /nowhere, and its host cannot be reached"}


def test_error_for_an_unknown_name_names_the_flag(tmp_path):
    with pytest.raises(UserError, match=r"unknown --outlier_datasets 'fashion_mnits'.*did you mean 'fashion_mnist'"):
        outlier_sets.load_outlier_datasets(["fashion_mnits"], str(tmp_path), (28, 28, 1), 2)


def test_error_for_a_folder_without_images_names_the_flag(tmp_path):
    for path, message in [(tmp_path, "it contains none"), (tmp_path / "missing", "no such folder")]:
        with pytest.raises(UserError, match=rf"^--outlier_datasets=folder:.*{message}"):
            outlier_sets.load_outlier_datasets([f"folder:{path}"], None, (28, 28, 1), 2)


def test_no_names_give_no_sets():
    assert outlier_sets.load_outlier_datasets([], None, (28, 28, 1), 2) == ({}, {})


@pytest.mark.real_data
def test_partly_prepared_data_set_is_loaded(tfds_dir):
    # The copy has a test split and no other, which is too little to train on.
    found, skipped = outlier_sets.load_outlier_datasets(["fashion_mnist"], tfds_dir, (28, 28, 1), 50)
    assert skipped == {} and found["fashion_mnist"].shape == (50, 28, 28, 1)
    expected, _ = tfds.read_split(tfds_builder.get_builder("fashion_mnist", tfds_dir), "test[:50]", (28, 28, 1))
    np.testing.assert_array_equal(found["fashion_mnist"], expected)
