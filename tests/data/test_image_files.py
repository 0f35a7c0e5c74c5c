import pytest
from PIL import Image

from cae.data import image_files
from cae.errors import UserError


def test_files_are_listed_with_subfolders_and_without_hidden_ones(tmp_path):
    for name in ("b.png", "sub/a.png", ".hidden", ".cache/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [name for name, _ in image_files.list_images(str(tmp_path))] == ["b.png", "sub/a.png"]
    assert image_files.list_images(str(tmp_path / "b.png")) == [("b.png", tmp_path / "b.png")]


def test_path_without_files_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no such file or folder"):
        image_files.list_images(str(tmp_path / "missing"))
    with pytest.raises(UserError, match="contains no files"):
        image_files.list_images(str(tmp_path))


def test_several_paths_are_listed_in_order_with_unique_names(tmp_path):
    for name in ("b.png", "a.png", "sub/a.png", "x,y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (3, 3)).save(tmp_path / name)
    paths = ",".join(str(tmp_path / name) for name in ("b.png", "a.png", "sub/a.png"))
    assert [name for name, _ in image_files.list_images(paths)] == ["b.png", "a.png", "sub/a.png"]
    assert image_files.list_images(str(tmp_path / "x,y.png")) == [("x,y.png", tmp_path / "x,y.png")]
    assert [name for name, _ in image_files.list_images(str(tmp_path))] == ["a.png", "b.png", "sub/a.png", "x,y.png"]
    with pytest.raises(UserError, match="there is no such file"):
        image_files.list_images(f"{tmp_path / 'a.png'},{tmp_path / 'missing.png'}")
