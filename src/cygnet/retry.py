"""How long to wait before something is tried again: a request that failed, or a camera that does not answer."""

import urllib3

LONGEST_BACKOFF_S = 60.0
LONGEST_RETRY_AFTER_S = 600.0
"""What asks to be left alone for longer is not taken at its word: a batch job ends, a watch tries again by then."""

PASSING_STATUSES = frozenset({408, 409, 425, 429})
"""HTTP statuses below 500 after which the same request may succeed."""


def is_passing(status: int) -> bool:
    """Tell whether the same request may succeed later."""
    return status in PASSING_STATUSES or status >= 500


def backoff_s(first_s: float, attempts: int) -> float:
    """Give the seconds to wait after so many attempts, from 0: they double, up to `LONGEST_BACKOFF_S`."""
    return min(first_s * 2 ** min(attempts, 30), LONGEST_BACKOFF_S)


def retry_after_s(header: str | None) -> float | None:
    """Read a `Retry-After` header: seconds, or a date; None without one that can be read."""
    try:
        return urllib3.Retry().parse_retry_after(header) if header else None
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):  # the others: a date far off
        return None
