"""Errors a user can act on: one line that says what was expected, what came, and what to do."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from pydantic import ValidationError

SHOWN = 5
"""Names of classes in an error; there may be hundreds."""


class VexbenchError(Exception):
    """A mistake in the input, not in vexbench; the command line prints it without a traceback."""


class NotApplicable(VexbenchError):
    """A method or metric that is not defined for this network or data; a study records it and goes on."""


def unknown(kind: str, name: str, known: Iterable[str]) -> VexbenchError:
    """Build the error for a name that does not exist, with the nearest ones that do."""
    names = sorted(set(known))
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    if not names:
        return VexbenchError(f"unknown {kind} '{name}'; there are none, leave it out.")
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}."
    return VexbenchError(f"unknown {kind} '{name}'; {hint}")


def refused(kind: str, error: ValidationError, known: Iterable[str]) -> VexbenchError:
    """Build the error for settings that pydantic refuses: one line for the first of them."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return unknown(kind, key, known)
    if first["type"] == "too_short":
        return VexbenchError(f"{kind} '{key}' is empty; name at least one, or leave it out.")
    return VexbenchError(f"{kind} '{key}': {first['msg']}; got {first['input']!r}.")


def some(names: Sequence[str]) -> str:
    """A few names, and how many more there are.

    >>> some("abcdefg")
    'a, b, c, d, e and 2 more'
    """
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
