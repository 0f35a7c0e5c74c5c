import csv
import weakref
from pathlib import Path

import numpy as np

from cae.report import cleaned


class Picture:
    """What a cleaned picture has to offer."""

    def __init__(self, text):
        self.text = text

    def save(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text)

    def facts(self):
        return {"width": len(self.text), "height": 1}

    def preview(self):
        return np.zeros((4, 4, 1)), np.ones((4, 4, 1))


def test_pictures_are_saved_under_their_names_and_every_file_has_a_line(tmp_path):
    results = [("a.png", Picture("one")), ("b.png", ValueError("cut off, at the end")), ("sub/a.png", Picture("three"))]
    count, skipped = cleaned.write(tmp_path, results, 10)
    assert (count, skipped) == (2, {"b.png": "cut off, at the end"})
    assert (tmp_path / "denoised/a.png").read_text() == "one"
    assert (tmp_path / "denoised/sub/a.png").read_text() == "three"
    with (tmp_path / "denoised.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["file"], line["status"], line["width"]) for line in lines] == [
        ("a.png", "cleaned", "3"),
        ("b.png", "skipped: cut off, at the end", ""),
        ("sub/a.png", "cleaned", "5"),
    ]
    assert (tmp_path / "denoised_sheet.png").exists()


def test_pictures_come_and_go_one_at_a_time(tmp_path):
    alive, most = [], 0

    def results():
        nonlocal most
        for number in range(50):
            picture = Picture(str(number))
            alive.append(weakref.ref(picture))
            most = max(most, sum(each() is not None for each in alive))
            yield f"{number}.png", picture
            del picture

    assert cleaned.write(tmp_path, results(), 5) == (50, {})
    assert most <= 2


def test_without_a_picture_there_is_no_sheet(tmp_path):
    assert cleaned.write(tmp_path, [("a.png", ValueError("empty"))], 5) == (0, {"a.png": "empty"})
    assert not (tmp_path / "denoised_sheet.png").exists()
