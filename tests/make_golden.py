"""Renews the golden weights and scores, or adds the weights of this machine: `make golden`."""

import argparse

# conftest comes first, as in a test run: it sets the numbers of threads, which change bits, before TensorFlow starts.
from tests import conftest, golden_scores
from tests.training import golden


def main():
    """Parses the arguments and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--add", action="store_true", help="keep the files, and add this machine's digests of weights")
    add = parser.parse_args().add
    conftest.import_tensorflow()
    golden.write(add=add)
    if not add:
        golden_scores.write()


if __name__ == "__main__":
    main()
