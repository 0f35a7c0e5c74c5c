import pytest

from cae.report.cells import Cell, columns, make_cell


@pytest.mark.parametrize(
    "value, column, expected",
    [
        (None, "mse", Cell("", None)),
        (0.012345, "mse", Cell("0.01235", 0.012345)),
        (0.0123456, "other", Cell("0.01235", 0.0123456)),
        (7, "images", Cell("7", 7.0)),
        (True, "two_sided", Cell("yes", None)),
        ("21.30*", "gaussian:0.5", Cell("21.30*", 21.3)),
        ("98.1%*", "gaussian:0.5", Cell("98.1%*", 98.1)),
        ("-1.5e-05", "x", Cell("-1.5e-05", -1.5e-5)),
        ("1 of 2", "x", Cell("1 of 2", None)),
        ("nan", "x", Cell("nan", None)),
    ],
)
def test_a_cell_has_a_text_and_the_number_that_it_is_sorted_by(value, column, expected):
    assert make_cell(value, column) == expected


def test_columns_are_those_of_all_rows_and_numeric_if_all_values_are():
    rows = [{"method": "a", "psnr": "21.3*", "params": "3"}, {"method": "b", "psnr": "", "params": "x", "level": 0.5}]
    assert columns(rows) == {"method": False, "psnr": True, "params": False, "level": True}
