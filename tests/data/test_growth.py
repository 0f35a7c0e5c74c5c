"""The benchmark of memory and start-up, as people start it, on sets that are small."""

import numpy as np
import pytest
from programs import run

from benchmarks import growth
from cae.data.records import Records
from cae.errors import UserError


def test_two_sets_are_written_trained_on_and_compared(tmp_path):
    words = (f"--folder={tmp_path}", "--sizes=20000,21000", "--steps=2", "--starts=1")
    code, out, err = run("-m", "benchmarks.growth", *words, folder=tmp_path)
    assert code == 0 and err == "", err
    *_, small, large, ratio, _ = out.splitlines()
    assert small.split()[0] == "20,000" and large.split()[0] == "21,000"
    assert float(ratio.split()[1]) == pytest.approx(float(large.split()[1]) / float(small.split()[1]), abs=0.01)
    assert [Records(tmp_path / size).splits["train"].images for size in ("20000", "21000")] == [5000, 6000]


def test_images_are_the_same_every_time_and_lie_where_their_labels_say():
    (images, labels), (again, _) = next(growth.spots(500)), next(growth.spots(500))
    np.testing.assert_array_equal(images, again)
    assert images.shape == (500, 28, 28, 1) and images.dtype == np.uint8 and set(labels) == {0, 1, 2, 3}
    brightest = images.reshape(500, -1).argmax(axis=1)
    row, column = brightest // 28, brightest % 28
    clear = (abs(row - 14) > 1) & (abs(column - 14) > 1)
    np.testing.assert_array_equal(labels[clear], (2 * (row > 14) + (column > 14))[clear])


@pytest.mark.parametrize("words", [["60000"], ["100", "1000000"], ["60000", "many"], ["60000", "60000"], []])
def test_sizes_that_cannot_be_are_refused(words):
    with pytest.raises(UserError, match=r"--sizes=.*two numbers of images, the smaller first"):
        growth.parse(words)
