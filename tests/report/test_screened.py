import csv

import numpy as np
from PIL import Image

from cae.outliers import thresholds
from cae.report import screened
from cae.tasks.screen import Screened


def result(p_value, belongs=True, warnings=()):
    return Screened(np.zeros([12, 12, 1], np.uint8), 24, 12, "24x12 to 12x12", warnings, 1 / p_value, p_value, belongs)


def test_a_line_a_file_in_turn_with_alarms_among_them_all(tmp_path):
    results = [("a.png", result(0.5)), ("b.png", ValueError("damaged")), ("c.png", result(0.01, False, ("x", "y")))]
    told, skipped = screened.write(tmp_path, results, lambda p: thresholds.alarms(p, 0.1), 10)
    with (tmp_path / "screened.csv").open(newline="") as file:
        first, second, third = csv.DictReader(file)
    assert (first["file"], first["belongs"], first["alarm"], first["p_value"]) == ("a.png", "True", "False", "0.5")
    assert (second["file"], second["status"], second["score"]) == ("b.png", "skipped: damaged", "")
    assert (third["belongs"], third["alarm"], third["warning"]) == ("False", "True", "x; y")
    assert (third["width"], third["height"], third["fitted"]) == ("24", "12", "24x12 to 12x12")
    assert [name for name, _ in told] == ["a.png", "c.png"] and skipped == {"b.png": "damaged"}


def test_the_contact_sheet_has_outliers_first(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(screened, "captioned", lambda pictures: drawn.extend(pictures) or CAPTIONED(pictures))
    results = [("a.png", result(0.5)), ("b.png", result(0.01, False)), ("c.png", result(0.2))]
    screened.write(tmp_path, results, lambda p: thresholds.alarms(p, 0.1), most_shown=2)
    assert [(name, line) for name, line, _ in drawn] == [("b.png", "outlier, p 0.01"), ("c.png", "belongs, p 0.2")]
    assert Image.open(tmp_path / "screened_sheet.png").size[0] > 100


def test_nothing_readable_leaves_a_table_and_no_sheet(tmp_path):
    told, skipped = screened.write(tmp_path, [("\udcff.png", ValueError("empty"))], lambda p: p <= 0, 10)
    assert told == [] and len(skipped) == 1
    assert (
        "skipped: empty" in (tmp_path / "screened.csv").read_text() and not (tmp_path / "screened_sheet.png").exists()
    )


CAPTIONED = screened.captioned
