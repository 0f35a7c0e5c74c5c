import csv

from matplotlib.figure import Figure

from cae.predict.writers import PredictionWriter


def test_every_file_has_a_row_in_the_order_of_the_files(tmp_path):
    writer = PredictionWriter(tmp_path / "new/table.csv", ("width", "score"))
    writer.add("a.png", width=3)
    writer.skip("b.png", ValueError("truncated, at the end"))
    writer.add("c.png", width=4)
    writer.add("sub/a.png", width=5, score=0.5)
    writer.rows["a.png"]["score"] = 0.25
    writer.skip("c.png", ValueError("no score"))
    assert [*writer.rows] == ["a.png", "sub/a.png"]
    assert writer.skipped == {"b.png": "truncated, at the end", "c.png": "no score"}
    writer.write(Figure())
    with (tmp_path / "new/table.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [list(row.values()) for row in rows] == [
        ["a.png", "ok", "3", "0.25"],
        ["b.png", "skipped: truncated, at the end", "", ""],
        ["c.png", "skipped: no score", "", ""],
        ["sub/a.png", "ok", "5", "0.5"],
    ]
    assert (tmp_path / "new/table_sheet.png").exists()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["table.csv", "table_sheet.png"]


def test_names_that_are_not_utf8_are_escaped(tmp_path):
    writer = PredictionWriter(tmp_path / "table.csv", ())
    writer.skip("\udcff.png", ValueError("empty"))
    writer.write(None)
    assert (tmp_path / "table.csv").read_text() == "file,status\n\\udcff.png,skipped: empty\n"
    assert not (tmp_path / "table_sheet.png").exists()
