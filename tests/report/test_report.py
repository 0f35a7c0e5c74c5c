import base64
import csv
import dataclasses
import gzip
import io
import json
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from report_page import Page, check_page

from cae.config import Config
from cae.report import charts, figures, report, training_curves
from cae.run import Run

HTML = "<b>this & that</b>"
"""A name of a method or class."""


@pytest.fixture(scope="module")
def section():
    random = np.random.default_rng(0)
    images = random.random((2, 12, 12, 1))
    rows = [{"method": HTML, "mse": 0.012345678, "level": "21.30*"}, {"method": "other", "mse": 1e-7, "level": ""}]
    chart = charts.line_chart({HTML: [(0, 1.0), (1, 2.0)]}, "level", "PSNR (dB)")
    latent_map = charts.scatter_plots({"t-SNE": random.random((2, 2))}, [HTML, "b"], [7, 9], images)
    return report.Section(
        name="denoise",
        title="Denoising",
        headline="less noise",
        results={"methods": rows},
        figures={
            "denoise": ("A caption", figures.example_rows({"a": images, "b": images}, random.random((2, 4)))),
            "levels": ("A chart.", chart),
            "map": ("A map", latent_map),
        },
        tables={"denoise": rows, "csv_only": rows},
        visible_tables={"denoise": "All methods"},
        sources={"levels": "csv_only"},
        key_figures=[report.KeyFigure("PSNR", "21.00 dB", HTML)],
    )


def write_and_parse(tmp_path, *sections, warning=None):
    path = report.write_report(tmp_path / "report", "a title", warning, {"versions": "x 1"}, sections)
    return Page(path.read_text())


def test_a_table_without_rows_leaves_no_file_of_an_earlier_evaluation(tmp_path, section):
    write_and_parse(tmp_path, section)
    tables = {name: [] for name in section.tables}
    write_and_parse(tmp_path, dataclasses.replace(section, tables=tables, visible_tables={}, sources={}))
    assert not list((tmp_path / "report").glob("*.csv"))


def test_an_animation_is_a_file_and_on_the_page(tmp_path, section, random):
    animations = {"path": ("A closed path", random.random((3, 12, 12, 1)))}
    page = write_and_parse(tmp_path, dataclasses.replace(section, animations=animations))
    check_page(page, tmp_path / "report")
    assert (tmp_path / "report/path.gif").read_bytes().startswith(b"GIF89a")
    (shown,) = page.inside("figure-path-animation", "img")
    with Image.open(io.BytesIO(base64.b64decode(shown[1]["src"].partition(",")[2]))) as animation:
        assert animation.n_frames == 3
    assert "A closed path" in page.text


def test_one_file_contains_everything_and_its_links_resolve(tmp_path, section):
    other = dataclasses.replace(section, name="other/part", figures={}, tables={}, key_figures=[])
    page = write_and_parse(tmp_path, section, other)
    check_page(page, tmp_path / "report")
    assert all(each["src"].startswith("data:image/webp;base64,") for each in page.find("img"))
    assert not any("src" in each for each in page.find("script"))
    for text in (
        "a title",
        "less noise",
        "Denoising",
        "A caption.",
        "A chart. ",
        "0.01235",
        "0.00000",
        "versions",
        "x 1",
    ):
        assert text in page.text
    assert page.text.count(HTML) == 2 and "<b>" not in page.scripts["plots"]  # Names are escaped.


def test_figures_link_to_the_csv_of_their_numbers(tmp_path, section):
    page = write_and_parse(tmp_path, section)
    assert [each["href"] for _, each in page.inside("figure-levels", "a")] == ["levels.png", "csv_only.csv"]
    assert [each["href"] for _, each in page.inside("figure-map", "a")] == ["map.png"]


def test_cells_have_the_numbers_that_they_are_sorted_by(tmp_path, section):
    page = write_and_parse(tmp_path, section)
    cells = [each.get("data-number") for _, each in page.inside("table-denoise", "td")]
    assert cells == ["0.012345678", "21.3", "1e-07", None]


def test_the_script_has_charts_and_plotly_js_only_where_they_are_needed(tmp_path, section):
    page = write_and_parse(tmp_path, section)
    plots = json.loads(page.scripts["plots"])
    assert plots.keys() == {"levels", "map"} == {each["data-plot"] for each in page.find("div") if "data-plot" in each}
    assert plots["map"]["thumbnails"]["indices"] == [7, 9]
    assert b"plotly.js" in gzip.decompress(base64.b64decode(page.scripts["plotly"]))[:100]
    without = dataclasses.replace(section, figures={"denoise": section.figures["denoise"]})
    assert write_and_parse(tmp_path, without).scripts.keys() == {None}


def test_the_lead_figure_or_else_the_first_one_is_on_top_and_not_repeated(tmp_path, section):
    without = dataclasses.replace(section, figures={"denoise": section.figures["denoise"]})
    for lead, sections in ((None, 0), (("Lead", section.figures["denoise"][1]), 1)):
        page = write_and_parse(tmp_path, dataclasses.replace(without, lead=lead))
        assert len(page.inside("summary", "img")) == 1
        links = [each["href"] for _, each in page.inside("summary", "a")]
        assert links == ([] if lead else ["denoise.png"]), "a lead figure of its own has no file"
        assert len(page.inside("section-denoise", "img")) == sections
    page = write_and_parse(tmp_path, report.Section("text", "Text"))
    assert not page.find("img") and not page.find("table")
    check_page(page, tmp_path / "report")


def test_names_that_may_be_cut_off_are_shown_whole_on_hover(tmp_path, section):
    page = write_and_parse(tmp_path, section)
    titles = [each.get("title") for _, each in page.inside("table-denoise", "th")]
    assert HTML in titles and "other" not in titles


def test_the_summary_has_the_first_key_figure_of_each_section_before_second_ones():
    def make(name, count):
        return report.Section(name, name, key_figures=[report.KeyFigure(f"{name}{rank}", "1") for rank in range(count)])

    sections = [make("a", 3), make("b", 0), make("c", 1), make("d", 3)]
    assert [figure.name for figure in report.select_key_figures(sections)] == ["a0", "a1", "c0", "d0", "d1"]
    assert [figure.name for figure in report.select_key_figures(sections[:1])] == ["a0", "a1", "a2"]


def test_a_warning_is_in_the_title_and_on_top(tmp_path, section):
    write_and_parse(tmp_path, section, warning="digits instead of mnist")
    text = (tmp_path / "report" / "index.html").read_text()
    assert "digits instead of mnist" in text.partition("</title>")[0]
    assert "digits instead of mnist" in text.partition("</h1>")[2].partition("<figure")[0]


def test_results_and_tables_are_files(tmp_path, section):
    write_and_parse(tmp_path, section)
    folder = tmp_path / "report"
    assert json.loads((folder / "results.json").read_text()) == {"denoise": section.results}
    with (folder / "csv_only.csv").open() as file:
        assert [float(row["mse"]) for row in csv.DictReader(file)] == [0.012345678, 1e-7]
    assert {path.name for path in folder.iterdir()} == {
        "index.html", "results.json", "denoise.png", "levels.png", "map.png", "denoise.csv", "csv_only.csv",
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


def test_the_learning_rate_is_drawn_where_it_is_known():
    names = ("train/loss", "validation/loss", "train/psnr", "validation/psnr")
    epochs = [{"epoch": epoch, "learning_rate": 0.1 / epoch} | dict.fromkeys(names, 0.1) for epoch in (1, 2)]
    section = training_curves.training_section(epochs)
    line = section.figures["learning_rate"][1].axes[0].lines[0]
    np.testing.assert_allclose(line.get_xydata(), [(1, 0.1), (2, 0.05)])
    assert section.sources == dict.fromkeys(("loss", "psnr", "learning_rate"), "epochs")


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
