"""What the tests rely on: few threads, and no processes but of tests that are marked for it."""

import subprocess
import sys

import joblib
import pytest
import tensorflow as tf
import threadpoolctl


def test_every_library_has_one_thread():
    """Two workers share two processors; the processes that they start inherit it by the environment."""
    assert {library["num_threads"] for library in threadpoolctl.threadpool_info()} <= {1}
    assert tf.config.threading.get_intra_op_parallelism_threads() in (0, 1)  # 0 means the environment variable.
    assert joblib.Parallel(n_jobs=-1)._backend.__class__.__name__ == "SequentialBackend"


def test_only_marked_tests_may_start_another_python():
    with pytest.raises(RuntimeError, match="only tests marked e2e or multiworker may start processes"):
        subprocess.run([sys.executable, "-c", ""], check=True)


@pytest.mark.e2e
def test_processes_inherit_threads_and_are_counted_if_they_import_tensorflow(tmp_path, monkeypatch):
    imports, package = tmp_path / "imports", tmp_path / "tensorflow"
    (package / "python").mkdir(parents=True)
    (package / "__init__.py").write_text("from tensorflow import python")
    monkeypatch.setenv("TENSORFLOW_PROCESSES_FILE", str(imports))

    def run(script):
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout, imports.exists()

    threads = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['TF_NUM_INTRAOP_THREADS'])"
    assert run(threads) == ("1 1\n", False)
    assert run("import importlib.util; importlib.util.find_spec('tensorflow')") == ("", False)
    assert run("import tensorflow") == ("", True)
    assert imports.read_text().count("test_processes_inherit_threads") == 1
