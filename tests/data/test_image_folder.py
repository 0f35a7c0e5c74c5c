import pytest
from PIL import Image

from cae.data import image_folder
from cae.errors import UserError


def save(path, image=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or Image.new("L", (20, 20), 128)).save(path)


def test_folder_is_read_with_its_subfolders_and_unreadable_files_are_named(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "deep" / "er" / "b.JPG")
    save(tmp_path / "c.bmp")
    (tmp_path / "notes.txt").write_text("not an image, by its extension")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "truncated.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    images, names, skipped = image_folder.read_folder(tmp_path, 28, 28, 1)
    assert sorted(names) == ["a.png", "c.bmp", "deep/er/b.JPG"]
    assert images.shape == (3, 28, 28, 1)
    assert skipped == ["empty.png", "text.jpg", "truncated.png"]


def test_image_that_declares_an_absurd_size_is_skipped(tmp_path):
    save(tmp_path / "a.png")
    # A one-bit image of 400 million pixels, whose file is small.
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    assert image_folder.read_folder(tmp_path, 28, 28, 1)[2] == ["huge.png"]


def test_order_depends_on_names_alone(tmp_path):
    for folder, names in (("one", "abcdef"), ("other", "fbdace")):
        for name in names:
            save(tmp_path / folder / f"{name}.png")
    one, other = (image_folder.list_files(tmp_path / folder) for folder in ("one", "other"))
    assert one == other != sorted(one)
    assert image_folder.read_folder(tmp_path / "one", 16, 16, 1)[1] == one


def test_subfolders_are_classes_if_every_image_is_in_one(tmp_path):
    for name in ("cat/1.png", "cat/more/2.png", "dog/3.png"):
        save(tmp_path / name)
    names = image_folder.list_files(tmp_path)
    classes = image_folder.list_classes(names)
    assert classes == ["cat", "dog"]
    expected = [0 if name.startswith("cat") else 1 for name in names]
    assert image_folder.get_labels(names, classes).tolist() == expected
    assert image_folder.list_classes([*names, "4.png"]) == image_folder.list_classes(["cat/1.png"]) == []
    assert image_folder.get_labels(names, []).tolist() == [0, 0, 0]


def test_classes_without_a_readable_image_are_left_out(tmp_path):
    for name in ("cat/1.png", "dog/1.png"):
        save(tmp_path / name)
    for name in ("dog/2.png", "eel/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = image_folder.list_files(tmp_path)
    assert image_folder.list_readable_classes(tmp_path, names, (16, 16, 1)) == ["cat", "dog"]


def test_fingerprint_changes_with_names_and_contents(tmp_path):
    save(tmp_path / "a.png")
    count, first = image_folder.fingerprint_folder(tmp_path)
    assert (count, first) == (1, image_folder.fingerprint_folder(tmp_path)[1])
    save(tmp_path / "a.png", Image.new("L", (30, 40), 7))
    second = image_folder.fingerprint_folder(tmp_path)[1]
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    (tmp_path / "broken.png").symlink_to(tmp_path / "a.png")
    count, third = image_folder.fingerprint_folder(tmp_path)
    assert count == 2 and len({first, second, third}) == 3


def test_folder_that_is_missing_or_without_images_is_refused(tmp_path):
    for call in (image_folder.list_files, image_folder.fingerprint_folder):
        with pytest.raises(UserError, match="there is no such folder"):
            call(tmp_path / "missing")
    with pytest.raises(UserError, match="it contains none"):
        image_folder.read_folder(tmp_path, 28, 28, 1)
    (tmp_path / "bad.png").write_text("no")
    with pytest.raises(UserError, match="none of its 1 can be read"):
        image_folder.read_folder(tmp_path, 28, 28, 1)
