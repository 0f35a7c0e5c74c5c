import csv
import dataclasses
import json
from html.parser import HTMLParser

import numpy as np
import pytest

from cae.report import figures, history, page


@pytest.fixture
def section(random):
    images = random.random((2, 12, 12, 1))
    rows = [{"method": "<b>this & that</b>", "mse": 0.012345678}, {"method": "other", "mse": 1e-7}]
    return page.Section(
        name="denoise",
        title="Denoising",
        headline="less noise",
        results=rows,
        figures={"denoise": ("A caption", figures.display({"a": images, "b": images}, random.random((2, 4))))},
        tables={"denoise": rows, "hidden": rows},
        shown={"denoise": "What came of it"},
    )


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.order, self.links, self.text, self.title = [], [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.order.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def written(tmp_path, *sections, warning=None):
    path = page.write(tmp_path / "report", "a title", warning, {"versions": "x 1"}, sections)
    return Page(path.read_text())


def test_an_animation_is_a_file_and_on_the_page(tmp_path, section, random):
    moving = {"ring": ("Round and round", random.random((3, 12, 12, 1)))}
    result = written(tmp_path, dataclasses.replace(section, animations=moving))
    assert (tmp_path / "report/ring.gif").read_bytes().startswith(b"GIF89a")
    assert sum(link.startswith("data:image/gif;base64,") for link in result.links) == 1
    assert "Round and round" in result.text


def test_one_file_holds_everything(tmp_path, section):
    result = written(tmp_path, section)
    assert result.links and all(link.startswith("data:image/png;base64,") for link in result.links)
    for text in ("a title", "less noise", "Denoising", "A caption", "0.01235", "0.00000", "versions", "x 1"):
        assert text in result.text
    # Names are shown as they are, not taken for markup.
    assert "<b>this & that</b>" in result.text


def test_the_first_figure_leads_the_page_and_stands_there_once(tmp_path, section):
    result = written(tmp_path, section)
    assert result.order.index("img") < result.order.index("h2")
    assert result.order.count("img") == 1


def test_a_warning_stands_in_the_title(tmp_path, section):
    written(tmp_path, section, warning="digits instead of mnist")
    text = (tmp_path / "report" / "index.html").read_text()
    assert "digits instead of mnist" in text.partition("</title>")[0]
    assert "digits instead of mnist" in text.partition("</h1>")[2].partition("<figure>")[0]


def test_results_and_tables_stand_beside(tmp_path, section):
    written(tmp_path, section)
    folder = tmp_path / "report"
    assert json.loads((folder / "results.json").read_text()) == {"denoise": section.results}
    with (folder / "hidden.csv").open() as file:
        assert [float(row["mse"]) for row in csv.DictReader(file)] == [0.012345678, 1e-7]
    assert {path.name for path in folder.iterdir()} == {
        "index.html", "results.json", "denoise.png", "denoise.csv", "hidden.csv",
    }  # fmt: skip


def test_history_draws_every_epoch():
    epochs = [
        {"epoch": e, "step": 10 * e, "seconds": 30.0}
        | {f"{run}/{name}": 1 / e for run in ("train", "validation") for name in ("loss", "psnr")}
        for e in (1, 2, 3)
    ]
    _, loss = history.section(epochs).figures["loss"]
    for line in loss.axes[0].lines:
        np.testing.assert_allclose(line.get_xydata(), [(1, 1), (2, 1 / 2), (3, 1 / 3)])


def test_an_absent_history_is_empty(tmp_path):
    assert history.read(tmp_path / "metrics.jsonl") == []
