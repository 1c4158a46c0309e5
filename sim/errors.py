"""The one error a user should ever read: what is wrong, where, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from the user, as one line: file, field, value, allowed range, nearest right name.

    The command line prints the message alone and exits with code 2; Python callers may catch it as a ``ValueError``.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt ``name``: the closest known one, all of them when nothing is close, or that there are
    none."""
    names = sorted(str(k) for k in known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return "known: " + ", ".join(names) if names else "there are none here"
