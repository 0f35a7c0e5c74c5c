"""The folder of predictions is written whole or not at all, on file systems with folders and without."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from apache_beam.io.filesystem import BeamIOError, FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.localfilesystem import LocalFileSystem
from beam_files import read_output
from cli import ROOT, assert_one_line

from cae.beam import beam_options, outputs, paths, tasks
from cae.beam.progress import Progress


@pytest.mark.parametrize("target", [(tasks.Encode, "predict"), (outputs, "_summarize")])
def test_a_pipeline_that_fails_leaves_nothing_and_succeeds_again(target, predict, folder, monkeypatch):
    def fail(*args):
        raise MemoryError("no memory for this")

    with monkeypatch.context() as patch:
        patch.setattr(*target, fail)
        result = predict("--input=images", "--task=encode")
    assert_one_line(result, "the pipeline failed, nothing was written: no memory for this\n")
    assert [path.name for path in folder.iterdir()] == ["images"]
    assert predict("--input=images", "--task=encode")[0] == 0
    assert_one_line(predict("--input=images"), "exists; name another folder, or remove it")


def test_predictions_are_kept_where_the_output_cannot_be_renamed(predict, folder, monkeypatch):
    def fail(*args, **options):
        raise PermissionError("no permission for this")

    monkeypatch.setattr(paths, "commit", fail)
    result = predict("--input=images", "--task=encode")
    assert_one_line(result, "no permission for this; predictions that are not there are in ")
    (kept,) = (path for path in folder.iterdir() if path.name != "images")
    assert str(kept) in result[2] and len(read_output(kept)[0]) == 65


class Bucket(LocalFileSystem):
    """A file system of names, without folders, as object stores have it: bucket://NAME is a file in `root`."""

    root = Path()

    @classmethod
    def scheme(cls):
        return "bucket"

    def join(self, path, *parts):
        return "/".join([path.rstrip("/"), *parts])

    def split(self, path):
        head, _, tail = path.rpartition("/")
        return head, tail

    def has_dirs(self):
        return False

    def mkdirs(self, path):
        pass

    def exists(self, path):
        return self._path(path).exists()

    def metadata(self, path):
        return FileMetadata(path, self._path(path).stat().st_size)

    def _list(self, prefix):
        for path in sorted(self.root.iterdir()):
            name = f"bucket://{path.name.replace('|', '/')}"
            if name.startswith(prefix):
                yield self.metadata(name)

    def _path_open(self, path, mode, mime_type=None, compression_type=None):
        return self._path(path).open(mode)

    def create(self, path, mime_type=None, compression_type=None):
        return self._path_open(path, "wb")

    def rename(self, sources, targets):
        for source, target in zip(sources, targets):
            os.rename(self._path(source), self._path(target))

    def delete(self, patterns):
        for match in self.match(patterns):
            if not match.metadata_list:
                raise BeamIOError("nothing to delete")
            for each in match.metadata_list:
                self._path(each.path).unlink()

    def _path(self, path):
        return self.root / path.removeprefix("bucket://").replace("/", "|")


def upload(folder, url):
    for path in folder.rglob("*"):
        if path.is_file():
            with FileSystems.create(f"{url}/{path.relative_to(folder).as_posix()}") as file:
                file.write(path.read_bytes())


def download(url, folder):
    for each in FileSystems.match([f"{url}/**"])[0].metadata_list:
        path = folder / each.path.removeprefix(f"{url}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileSystems.open(each.path) as file:
            path.write_bytes(file.read())
    return folder


def test_input_model_and_output_may_be_urls(predict, export, folder, images, tmp_path, monkeypatch):
    monkeypatch.setattr(Bucket, "root", tmp_path / "bucket")
    Bucket.root.mkdir()
    upload(folder / "images", "bucket://data/images")
    upload(export, "bucket://data/export")
    words = ("--saved_model=bucket://data/export", "--input=bucket://data/images/*.png", "--output=bucket://data/out")
    code, out, err = predict(*words)
    assert (code, err) == (0, "") and "predictions of 65 images: bucket://data/out" in out
    from_urls = read_output(download("bucket://data/out", tmp_path / "downloaded"))
    assert not [path.name for path in Bucket.root.iterdir() if "tmp" in path.name]
    assert predict("--input=images")[0] == 0
    assert from_urls[0] == read_output(folder / "out")[0]
    assert_one_line(predict(*words), "--output=bucket://data/out exists; name another folder, or remove it")


@pytest.mark.parametrize(
    "words, message",
    [
        (("--saved_model=",), "--saved_model=FOLDER is missing"),
        (("--output=",), "--output=FOLDER is missing"),
        (("--saved_model=images",), "images is not the --output of python -m cae.export: export.json cannot be read"),
        (("--input=gone/*",), "--input=gone/* matches no file; a pattern looks like"),
        (("--input=sftp://host/*",), "sftp://host/* cannot be listed: Unable to get filesystem"),
        (("--alpha=0.001",), "--alpha=0.001: the detector can guarantee 0.01 at least"),
        (("--fdr=2",), "--fdr=2.0 must be between 0 and 1"),
        (("--runner=Fink",), "the pipeline failed, nothing was written: Unexpected pipeline runner: Fink"),
        (("--flink_mastr=localhost",), "Unknown command line flag 'flink_mastr'. Did you mean: flink_master"),
        (("--name_column=a", "--task=segment"), "task"),
    ],
)
def test_misuse_is_one_line(words, message, predict, folder):
    assert_one_line(predict("--input=images", *words), message)
    assert [path.name for path in folder.iterdir()] == ["images"]


def test_options_of_beam_are_flags(program_flags):
    given = ["--runner=FlinkRunner", "--streaming", "--experiments=a", "--experiments=b", "--job_server_timeout=9"]
    program_flags(["cae.beam", *given, "--input=a", "--nosave_main_session"])
    assert sorted(beam_options.words(program_flags)) == sorted(given)


def test_a_process_tells_how_many_images_it_has_predicted(capsys, monkeypatch):
    monkeypatch.setattr("cae.beam.progress.SECONDS_PER_LINE", 0.0)
    progress = Progress()
    progress.add(1000)
    progress.add(234)
    assert capsys.readouterr().err.splitlines()[-1].startswith("1,234 images, ")


@pytest.mark.e2e
def test_workers_import_neither_figures_nor_runs():
    script = (
        "import sys; from cae.beam import pipeline, tasks; tasks.denoising.denoise;"
        " print(*sorted({'matplotlib', 'sklearn', 'tensorflow', 'cae.run', 'cae.report'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
