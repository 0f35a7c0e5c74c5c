import numpy as np
import pytest
from PIL import Image

from cae.data import panel, pictures, prepared, sources
from cae.errors import UserError

DRAWN = ["uniform_noise", "shuffled_blocks", "missing_square", "overlaid"]
CONSTANT = {"black": 0, "grey": 128, "white": 255}


@pytest.fixture
def strokes():
    """Images of a bright square on dark background, each elsewhere, and of a slope, so that no part is like another."""
    images = np.full([12, 16, 16, 1], 20, np.uint8)
    for number, image in enumerate(images):
        image[3 + number % 6 : 9 + number % 6, 2 + number : 5 + number] = 150 + 3 * number
        image[4:12, 4:12] += np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    return images


@pytest.fixture
def anything(random):
    return random.integers(0, 256, (6, 15, 18, 3), np.uint8)


# --- Made of test images, or of nothing ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", panel.OUTLIERS)
def test_every_kind_gives_images_of_the_same_shape_and_leaves_its_own_alone(name, strokes):
    before = strokes.copy()
    found = panel.make(name, strokes, 0)
    assert found.dtype == np.uint8 and found.shape == (1 if name in CONSTANT else 12, 16, 16, 1)
    found = found.copy()
    found[:] = 7
    np.testing.assert_array_equal(strokes, before)
    # All of them are other images, if not each one.
    assert not np.array_equal(panel.make(name, strokes, 0), strokes)


@pytest.mark.parametrize("name", panel.OUTLIERS)
def test_colours_and_sides_that_differ_are_no_trouble(name, anything):
    found = panel.make(name, anything, 0)
    count = {"quarter_turn": 0} | dict.fromkeys(CONSTANT, 1)
    assert found.dtype == np.uint8 and found.shape == (count.get(name, 6), 15, 18, 3)


@pytest.mark.parametrize("name", panel.OUTLIERS)
def test_a_single_image_is_enough(name, strokes):
    assert panel.make(name, strokes[:1], 0).shape == (1, 16, 16, 1)


@pytest.mark.parametrize("name", panel.OUTLIERS)
def test_the_seed_decides_and_nothing_else(name, strokes):
    first = panel.make(name, strokes, 3)
    np.testing.assert_array_equal(first, panel.make(name, strokes, 3))
    others = [np.array_equal(first, panel.make(name, strokes, seed)) for seed in range(4, 12)]
    # One shift of few images may come up twice.
    assert not all(others) if name in DRAWN else all(others)


def test_the_noise_has_all_values_alike():
    found = panel.make("uniform_noise", np.zeros([100, 32, 32, 1], np.uint8), 0)
    # 400 of each value are expected, give or take 20.
    assert np.abs(np.bincount(found.reshape(-1), minlength=256) - 400).max() < 100


@pytest.mark.parametrize("name, value", CONSTANT.items())
def test_of_constants_there_is_one_image(name, value, anything):
    np.testing.assert_array_equal(panel.make(name, anything, 0), np.full([1, 15, 18, 3], value))


@pytest.mark.parametrize("name", ["inverted", "left_right", "up_down"])
def test_what_is_turned_over_twice_is_as_it_was(name, anything):
    once = panel.make(name, anything, 0)
    assert not np.array_equal(once, anything)
    np.testing.assert_array_equal(panel.make(name, once, 0), anything)


def test_a_corner_goes_where_it_is_said_to_go():
    image = np.zeros([1, 12, 12, 1], np.uint8)
    image[0, 0, 0] = 200
    corners = {"left_right": (0, 11), "up_down": (11, 0), "quarter_turn": (11, 0)}
    for name, corner in corners.items():
        assert np.argwhere(panel.make(name, image, 0)[0, :, :, 0]).tolist() == [list(corner)]
    # The second corner tells turning from mirroring.
    image[0, 0, 11] = 100
    assert panel.make("quarter_turn", image, 0)[0, 0, 0] == 100
    inverted = panel.make("inverted", image, 0)[0, ..., 0]
    assert inverted[0, 0] == 55 and inverted[0, 11] == 155 and inverted[5, 5] == 255


def test_four_quarter_turns_are_a_whole_one(strokes):
    turned = strokes
    for _ in range(4):
        turned = panel.make("quarter_turn", turned, 0)
    np.testing.assert_array_equal(turned, strokes)


@pytest.mark.parametrize("sides", [(16, 16), (17, 22)])
def test_shuffled_blocks_are_the_images_own_elsewhere(random, sides):
    images = random.integers(0, 256, (20, *sides, 3), np.uint8)
    found = panel.make("shuffled_blocks", images, 0)
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
    # Lines that are left over stay.
    np.testing.assert_array_equal(found[:, 4 * down :], images[:, 4 * down :])
    np.testing.assert_array_equal(found[:, :, 4 * across :], images[:, :, 4 * across :])


def test_each_image_is_shuffled_in_its_own_way():
    images = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), 10, axis=0)
    assert len({image.tobytes() for image in panel.make("shuffled_blocks", images, 0)}) == 10


def test_a_missing_square_takes_the_background_and_something_with_it(strokes):
    found = panel.make("missing_square", strokes, 0)
    for before, after in zip(strokes[..., 0], found[..., 0]):
        rows, columns = np.nonzero(before != after)
        assert len(rows) and (after[rows, columns] == 20).all()
        # 0.3 of 16 are 5.
        assert np.ptp(rows) < 5 and np.ptp(columns) < 5
        assert (before[rows, columns].astype(int) - 20 > 64).any()


def test_the_background_of_bright_images_is_bright(strokes):
    found = panel.make("missing_square", 255 - strokes, 0)
    changed = found != 255 - strokes
    assert changed.any(axis=(1, 2, 3)).all() and (found[changed] == 235).all()


def test_the_missing_square_of_colours_has_the_backgrounds_colour():
    images = np.tile(np.array([10, 120, 230], np.uint8), (3, 20, 20, 1))
    images[:, 6:14, 6:14] = [200, 120, 40]
    found = panel.make("missing_square", images, 0)
    changed = (found != images).any(axis=-1)
    # 0.3 of 20 are 6; at the edge of what there is to see less than the whole square changes.
    assert all(9 <= count <= 36 for count in changed.sum(axis=(1, 2)))
    assert (found[changed] == [10, 120, 230]).all()


def test_where_there_is_only_background_nothing_can_be_missing():
    images = np.full([2, 12, 12, 1], 33, np.uint8)
    np.testing.assert_array_equal(panel.make("missing_square", images, 0), images)


def test_an_overlaid_image_shows_itself_and_another_one(strokes):
    for seed in range(10):
        found = panel.make("overlaid", strokes, seed)
        assert (found >= strokes).all() and not any(map(np.array_equal, found, strokes))
        # For all of them it is the image that is so many places ahead.
        shifts = [shift for shift in range(1, 12) if (found >= np.roll(strokes, shift, axis=0)).all()]
        assert len(shifts) == 1
        np.testing.assert_array_equal(found, np.maximum(strokes, np.roll(strokes, shifts[0], axis=0)))


# --- Of other data sets ----------------------------------------------------------------------------------------------


def test_digits_are_fitted_to_the_shape_and_cut_to_as_many_as_are_wanted():
    found, skipped = panel.read_each(["digits"], None, (20, 24, 3), 7)
    assert found.keys() == {"digits"} and skipped == {}
    assert found["digits"].shape == (7, 20, 24, 3) and found["digits"].dtype == np.uint8
    # The digits are 28x28 and keep their proportions: 20x20, and two columns of background on either side.
    assert not found["digits"][:, :, [0, 1, -2, -1]].any() and found["digits"].any(axis=(1, 2, 3)).all()


def test_lines_are_fitted_too(few_lines):
    found, _ = panel.read_each(["lines"], None, (28, 28, 1), 5)
    assert found["lines"].shape == (5, 28, 28, 1) and found["lines"].any(axis=(1, 2, 3)).all()


def test_digits_of_their_own_size_are_those_of_the_test_split():
    found, _ = panel.read_each(["digits"], None, (28, 28, 1), 10_000)
    expected = sources.open_source(sources.Config(dataset="digits")).read("test")[0]
    np.testing.assert_array_equal(found["digits"], expected)


def test_a_folders_pictures_are_fitted_to_the_shape(tmp_path, random):
    for number in range(5):
        Image.fromarray(random.integers(0, 256, (30, 40, 3), np.uint8)).save(tmp_path / f"{number}.png")
    name = f"folder:{tmp_path}"
    found, skipped = panel.read_each([name], None, (16, 16, 1), 3)
    assert skipped == {}
    np.testing.assert_array_equal(found[name], pictures.read_folder(tmp_path, 16, 16, 1).images[:3])
    assert len(panel.read_each([name], None, (16, 16, 1), 100)[0][name]) == 5


def test_what_cannot_be_had_is_left_out_and_the_others_are_not(monkeypatch):
    def unreachable(name, data_dir):
        raise prepared.Unavailable(f"--dataset={name} is not prepared in {data_dir}, and its host cannot be reached")

    monkeypatch.setattr(prepared, "builder", unreachable)
    found, skipped = panel.read_each(["emnist", "digits"], "/nowhere", (28, 28, 1), 2)
    assert found.keys() == {"digits"}
    assert skipped == {"emnist": "not prepared in /nowhere, and its host cannot be reached"}


def test_an_unknown_name_says_where_it_was_given(tmp_path):
    with pytest.raises(UserError, match=r"unknown --outlier_datasets 'fashion_mnits'.*did you mean 'fashion_mnist'"):
        panel.read_each(["fashion_mnits"], str(tmp_path), (28, 28, 1), 2)


def test_a_folder_without_pictures_says_where_it_was_given(tmp_path):
    for path, told in [(tmp_path, "it holds none"), (tmp_path / "gone", "no such folder")]:
        with pytest.raises(UserError, match=rf"^--outlier_datasets=folder:.*{told}"):
            panel.read_each([f"folder:{path}"], None, (28, 28, 1), 2)


def test_of_no_names_there_are_no_sets():
    assert panel.read_each([], None, (28, 28, 1), 2) == ({}, {})


@pytest.mark.real_data
def test_a_set_that_is_prepared_in_part_is_read(tfds_dir):
    # Here it has a test split and no other, which is too little to train on.
    found, skipped = panel.read_each(["fashion_mnist"], tfds_dir, (28, 28, 1), 50)
    assert skipped == {} and found["fashion_mnist"].shape == (50, 28, 28, 1)
    expected, _ = prepared.read(prepared.builder("fashion_mnist", tfds_dir), "test[:50]", (28, 28, 1))
    np.testing.assert_array_equal(found["fashion_mnist"], expected)
