"""Tables that wait on disk for a number that is known at the end: what workers hold does not grow with the images."""

import uuid
from collections.abc import Iterator

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue


class SpillTables(beam.DoFn):
    """Writes the tables of a bundle to one file, in Arrow's streaming format, and yields its path.

    The file of a bundle that failed is left, and is read by nobody.

    Args:
      folder: The folder to write to.
      schema: That of all tables.
    """

    def __init__(self, folder: str, schema: pa.Schema):
        self._folder, self._schema = folder, schema

    def start_bundle(self) -> None:
        """Forgets the file of a bundle that failed."""
        self._writer = None

    def process(self, table: pa.Table) -> None:
        """Appends a table."""
        if self._writer is None:
            self._path = FileSystems.join(self._folder, f"{uuid.uuid4().hex}.arrows")
            self._file = FileSystems.create(self._path, compression_type=CompressionTypes.UNCOMPRESSED)
            self._writer = pa.ipc.new_stream(self._file, self._schema)
        self._writer.write_table(table)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Yields the path, if there were tables."""
        if self._writer is not None:
            self._writer.close()
            self._file.close()
            yield GlobalWindows.windowed_value_at_end_of_window(self._path)


def read_tables(path: str) -> Iterator[pa.Table]:
    """Yields the tables of a file of `SpillTables`, one in memory at a time."""
    with (
        FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file,
        pa.ipc.open_stream(file) as tables,
    ):
        for batch in tables:
            yield pa.Table.from_batches([batch])
