"""docs/quickstart.ipynb runs, and holds what it printed and drew."""

import contextlib
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from cli import ROOT

PATH = ROOT / "docs/quickstart.ipynb"

CELLS = [cell for cell in json.loads(PATH.read_text())["cells"] if cell["cell_type"] == "code"]

MAX_BYTES = 500_000


@pytest.fixture(scope="module")
def namespace(tmp_path_factory):
    """What the cells define, run one after the other in an empty folder."""
    namespace = {}
    with contextlib.chdir(tmp_path_factory.mktemp("quickstart")):
        for number, cell in enumerate(CELLS):
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), namespace)
    plt.close("all")
    return namespace


def test_cells_run_and_show_what_the_text_says(namespace):
    digits, noisy = namespace["digits"] / 255, namespace["noisy"]
    error = np.square(namespace["run"].denoise(noisy) - digits).mean()
    assert error < 0.3 * np.square(noisy - digits).mean()
    verdicts = dict(zip(namespace["candidates"], namespace["is_inlier"].tolist()))
    assert verdicts.pop("digit") and not any(verdicts[name] for name in ("inverted", "noise", "black"))
    maps, pasted = namespace["maps"], np.any(namespace["pasted"] != namespace["digits"], axis=-1)
    assert maps[pasted].mean() > 5 * maps[~pasted].mean()


def test_outputs_are_in_the_notebook():
    outputs = [output for cell in CELLS for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "display_data", "execute_result"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    assert [cell["execution_count"] for cell in CELLS] == [*range(1, len(CELLS) + 1)]
    text = "".join(line for output in outputs for line in output.get("text", ()))
    assert "writing to runs/quickstart" in text and PATH.stat().st_size < MAX_BYTES
