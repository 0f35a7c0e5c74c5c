"""Dead letters: what could not be read or predicted, by name and with the reason."""

from apache_beam import pvalue
from apache_beam.metrics import Metrics

from cae.beam import NAMESPACE
from cae.predict.predictor import to_file_error


def dead_letter(name: str, error: Exception) -> pvalue.TaggedOutput:
    """Returns what is written to failed.jsonl; raises an error that other images would raise as well."""
    reason = str(to_file_error(error))
    Metrics.counter(NAMESPACE, "failed").inc()
    return pvalue.TaggedOutput("failed", {"name": name, "reason": reason})
