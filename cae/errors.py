"""Errors that the user can correct, in one line."""

import difflib
import re
from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can correct; its message names what was wrong and what would be right."""


def unknown_choice_error(option: str, name: str, choices: Iterable[str], max_listed: int = 12) -> UserError:
    """Returns the error for a name that is not among the choices: it lists them and suggests the closest one.

    Args:
      option: What was chosen, such as '--model'.
      name: The unknown name.
      choices: The names that would be right.
      max_listed: Number of choices that are listed at most.
    """
    choices = sorted(choices)
    closest = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f" (did you mean '{closest[0]}'?)" if closest else ""
    more = f" and {len(choices) - max_listed} more" if len(choices) > max_listed else ""
    return UserError(f"unknown {option} '{name}'{hint}; available: {', '.join(choices[:max_listed])}{more}")


def unwrap_graph_error(error: Exception) -> UserError | None:
    """Returns the `UserError` that was raised within a TensorFlow graph, whose own error has only its text."""
    found = re.search(r"\bUserError: (.+)", str(error))
    return UserError(found[1]) if found else None
