"""What went wrong, said to the user in one line."""

import difflib
import re
from collections.abc import Iterable


class UserError(Exception):
    """Something that the user can put right; its text names what was wrong and what would be right."""


def unknown_name(what: str, name: str, known: Iterable[str], most: int = 12) -> UserError:
    """Returns the error for a `name` that is not among the `known` ones: it lists them and the nearest."""
    known = sorted(known)
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" (did you mean '{nearest[0]}'?)" if nearest else ""
    listed = ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "")
    return UserError(f"unknown {what} '{name}'{hint}; known: {listed}")


def raised_in_graph(error: Exception) -> UserError | None:
    """Returns the `UserError` that ended a graph of TensorFlow's, whose own error has it in its text alone."""
    found = re.search(r"\bUserError: (.+)", str(error))
    return UserError(found[1]) if found else None
