"""In how long an HTTP endpoint wants to be called again, by its own words."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_LONGEST_S = 3600.0
"""An endpoint is asked again after this, whatever it said."""


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """In how many seconds to come again, by one of the three ways in which that is said; None where none is.

    Headers that tell what is left of a limit (``x-ratelimit-*``) do not say it: theirs is the time until the limit is
    whole again, and the next call is often taken long before.
    """
    try:
        milliseconds, after = headers.get("retry-after-ms"), headers.get("retry-after", "")
        if milliseconds is not None:
            left_s = float(milliseconds) / 1000
        elif after.endswith("GMT"):
            left_s = parsedate_to_datetime(after).timestamp() - time.time()
        else:
            left_s = float(after)
    except ValueError:
        return None
    return min(left_s, _LONGEST_S) if left_s > 0 else None
