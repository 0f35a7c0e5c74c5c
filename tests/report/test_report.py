import csv
import dataclasses
import json
from html.parser import HTMLParser
from unittest import mock

import numpy as np
import pytest

from cae.config import Config
from cae.report import figures, report, training_curves
from cae.run import Run


@pytest.fixture
def section(random):
    images = random.random((2, 12, 12, 1))
    rows = [{"method": "<b>this & that</b>", "mse": 0.012345678}, {"method": "other", "mse": 1e-7}]
    return report.Section(
        name="denoise",
        title="Denoising",
        headline="less noise",
        results={"methods": rows},
        figures={"denoise": ("A caption", figures.example_rows({"a": images, "b": images}, random.random((2, 4))))},
        tables={"denoise": rows, "csv_only": rows},
        visible_tables={"denoise": "All methods"},
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


def write_and_parse(tmp_path, *sections, warning=None):
    path = report.write_report(tmp_path / "report", "a title", warning, {"versions": "x 1"}, sections)
    return Page(path.read_text())


def test_an_animation_is_a_file_and_on_the_page(tmp_path, section, random):
    animations = {"path": ("A closed path", random.random((3, 12, 12, 1)))}
    page = write_and_parse(tmp_path, dataclasses.replace(section, animations=animations))
    assert (tmp_path / "report/path.gif").read_bytes().startswith(b"GIF89a")
    assert sum(link.startswith("data:image/gif;base64,") for link in page.links) == 1
    assert "A closed path" in page.text


def test_one_file_contains_everything(tmp_path, section):
    page = write_and_parse(tmp_path, section)
    assert page.links and all(link.startswith("data:image/png;base64,") for link in page.links)
    for text in ("a title", "less noise", "Denoising", "A caption", "0.01235", "0.00000", "versions", "x 1"):
        assert text in page.text
    # Names are escaped.
    assert "<b>this & that</b>" in page.text


def test_the_first_figure_leads_the_page_and_is_not_repeated(tmp_path, section):
    page = write_and_parse(tmp_path, section)
    assert page.order.index("img") < page.order.index("h2")
    assert page.order.count("img") == 1


def test_a_warning_is_in_the_title_and_on_top(tmp_path, section):
    write_and_parse(tmp_path, section, warning="digits instead of mnist")
    text = (tmp_path / "report" / "index.html").read_text()
    assert "digits instead of mnist" in text.partition("</title>")[0]
    assert "digits instead of mnist" in text.partition("</h1>")[2].partition("<figure>")[0]


def test_results_and_tables_are_files(tmp_path, section):
    write_and_parse(tmp_path, section)
    folder = tmp_path / "report"
    assert json.loads((folder / "results.json").read_text()) == {"denoise": section.results}
    with (folder / "csv_only.csv").open() as file:
        assert [float(row["mse"]) for row in csv.DictReader(file)] == [0.012345678, 1e-7]
    assert {path.name for path in folder.iterdir()} == {
        "index.html", "results.json", "denoise.png", "denoise.csv", "csv_only.csv",
    }  # fmt: skip


def test_training_curves_show_every_epoch():
    epochs = [
        {"epoch": e, "step": 10 * e, "seconds": 30.0}
        | {f"{run}/{name}": 1 / e for run in ("train", "validation") for name in ("loss", "psnr")}
        for e in (1, 2, 3)
    ]
    _, loss = training_curves.training_section(epochs).figures["loss"]
    for line in loss.axes[0].lines:
        np.testing.assert_allclose(line.get_xydata(), [(1, 1), (2, 1 / 2), (3, 1 / 3)])


def test_the_loss_of_a_classifier_has_a_figure_of_its_own():
    names = ("train/loss", "validation/loss", "train/psnr", "validation/psnr")
    epochs = [{"epoch": epoch} | dict.fromkeys(names, 0.1 * epoch) for epoch in (1, 2, 3)]
    for epoch in epochs[2:]:
        epoch["validation/classification_loss"] = epoch["validation/loss"]
    figures = training_curves.training_section(epochs).figures
    assert [*figures] == ["loss", "classification_loss", "psnr"]
    drawn = [[[*line.get_xdata()] for line in figure.axes[0].lines] for _, figure in figures.values()]
    assert drawn == [[[1, 2]] * 2, [[3]] * 2, [[1, 2, 3]] * 2]


@pytest.mark.parametrize("key", ["epoch_seconds", "seconds"])  # Older runs have the second.
def test_the_run_info_names_the_best_epoch_and_the_training_time(key, tmp_path):
    epochs = [{"epoch": e, "step": 10 * e, key: 45.0} for e in (1, 2)]
    splits = {"train": {"images": 1200, "origin": "train"}}
    dataset = {"name": "digits", "image_shape": [28, 28, 1], "splits": splits, "skipped": []}
    run_config = {"dataset": dataset, "config": {"seed": 0, "noise": None}, "versions": {"numpy": "2"}}
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(epoch)}\n" for epoch in epochs))
    info = Run(tmp_path, run_config, Config(), mock.Mock(**{"count_params.return_value": 1234}), step=10).info()
    assert info["checkpoint"].startswith("step 10, epoch 1 of 2") and info["training time"] == "1.5 minutes"
    assert (info["config"], info["parameters"]) == ("seed=0", "1,234")
