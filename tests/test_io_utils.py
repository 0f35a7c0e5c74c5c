import os

import pytest

from cae.io_utils import atomic_folder, atomic_write, printable, temporary_path, write_csv


@pytest.mark.parametrize("mode, content", [("w", "Größe\nÜ\r\n"), ("wb", b"\x00\xff")])
def test_a_file_is_written_and_replaced(tmp_path, mode, content):
    path = tmp_path / "results.json"
    for _ in range(2):
        with atomic_write(path, mode) as file:
            file.write(content)
        assert path.read_bytes() == (content if mode == "wb" else content.encode())
        assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "export"
    with pytest.raises(KeyboardInterrupt), atomic_folder(path) as folder:
        (folder / "file").write_text("half")
        raise KeyboardInterrupt
    assert not [*path.parent.iterdir()]
    temporary_path(path).mkdir()  # Of a process that was killed.
    (temporary_path(path) / "stale").touch()
    with atomic_folder(path) as folder:
        (folder / "file").write_text("whole")
        assert not path.exists()
    assert [*path.parent.iterdir()] == [path] and [*path.iterdir()] == [path / "file"]


def test_a_file_may_have_the_longest_name(tmp_path):
    path = tmp_path / ("ü" * 127 + "x")  # 255 bytes.
    with atomic_write(path) as file:
        file.write("new")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_reader_sees_the_old_content_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    with atomic_write(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [None, "old"])
def test_an_exception_leaves_the_file_as_it_was(tmp_path, old, error):
    path = tmp_path / "results.json"
    if old:
        path.write_text(old)
    with pytest.raises(error), atomic_write(path) as file:
        file.write("new")
        raise error
    assert [each.read_text() for each in tmp_path.iterdir()] == ([old] if old else [])


def test_a_file_is_flushed_to_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    path, calls = tmp_path / "results.json", []
    monkeypatch.setattr(os, "fsync", lambda _: calls.append(("fsync", temporary_path(path).read_text(), path.exists())))
    with atomic_write(path) as file:
        file.write("new")
    assert calls == [("fsync", "new", False)] and path.read_text() == "new"


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(28, "No space left on device")

    path = tmp_path / "results.json"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"), atomic_write(path) as file:
        file.write("new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_the_leftover_of_a_killed_process_is_overwritten(tmp_path):
    path = tmp_path / "results.json"
    temporary_path(path).write_text("half of something longer")
    with atomic_write(path) as file:
        file.write("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_csv_columns_are_those_of_all_rows_in_order(tmp_path):
    path = tmp_path / "table.csv"
    write_csv(path, [{"a": 1, "b": "x,y"}, {"a": 2.5, "c": None}, {"a": "\udce9"}])
    assert path.read_bytes() == b'a,b,c\r\n1,"x,y",\r\n2.5,,\r\n\\udce9,,\r\n'


def test_names_are_one_line_of_utf8():
    assert printable(os.fsdecode("Übung\n\t\0".encode() + b"\xe9")) + printable("\u2028\u202f") == (
        "Übung\\n\\t\\x00\\udce9\\u2028\u202f"
    )


def test_csv_columns_may_be_given(tmp_path):
    path = tmp_path / "table.csv"
    write_csv(path, [], ["b", "a"])
    assert path.read_text() == "b,a\n"
    with pytest.raises(ValueError, match="not in fieldnames"):
        write_csv(path, [{"a": 1, "c": 2}], ["a"])
    assert path.read_text() == "b,a\n" and list(tmp_path.iterdir()) == [path]
