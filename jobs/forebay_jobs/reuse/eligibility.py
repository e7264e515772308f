"""Which requests are never answered from a cache by their nature: time-sensitive and user-specific ones.

Rules on the last user turn, in English. They lean to caution: a question wrongly held back costs one generation,
one wrongly reused costs a wrong answer.
"""

import re
from enum import StrEnum

from forebay_schemas.canonical import category_of, question_of
from forebay_schemas.config import Config
from forebay_schemas.records import CachePolicy, Request


class Reuse(StrEnum):
    """What may be done with a request, and why not more."""

    SEMANTIC = "semantic"
    """Compared by meaning and exactly."""
    EXACT = "exact"
    """Answered only for equal requests."""
    POLICY = "policy"
    """Not reused: the request or its category says so."""
    TEMPERATURE = "temperature"
    """Not reused: it asks for variety."""
    TIME_SENSITIVE = "time_sensitive"
    """Not reused: the answer depends on when it is asked."""
    USER_SPECIFIC = "user_specific"
    """Not reused: the answer depends on who asks."""

    @property
    def allowed(self) -> bool:
        """Whether the answer may serve others at all."""
        return self in (Reuse.SEMANTIC, Reuse.EXACT)


def _phrases(*phrases: str) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(phrases) + r")\b", re.IGNORECASE)


_TIME = _phrases(
    r"today|tonight|tomorrow|yesterday",
    r"(?:right )?now(?! that)",
    r"current(?:ly)?|at the moment|at present|as of|so far|nowadays",
    r"latest|newest|most recent|up[- ]to[- ]date",
    r"(?:this|next|last|coming) (?:hour|morning|afternoon|evening|night|week(?:end)?|month|quarter|year|season)",
    r"(?:this|next|last|on) (?:mon|tues|wednes|thurs|fri|satur|sun)day",
    r"(?:in|within|for) the (?:next|last|past) (?:few |\d+ )?(?:minute|hour|day|week|month)s?",
    r"\d+ (?:minute|hour|day|week)s? ago|just (?:now|happened)|recent(?:ly)?",
    r"weather|forecast|temperature outside|news|headlines",
    r"(?:stock|share|gold|oil|bitcoin|crypto) prices?|exchange rate|score of the|who is winning",
    r"what (?:time|day|date) is it|what'?s the (?:time|date)",
    r"still (?:open|available|in stock|valid|down)|in stock|(?:is|are) .{0,40}\b(?:down|offline|open)",
)

_OBJECT = (
    r"(?:order|parcel|package|delivery|shipment|account|invoice|bill|balance|payment|refund|subscription|plan|booking"
    r"|reservation|ticket|case|claim|contract|appointment|application|request|device|locker|pump|data|address|password)"
)

_MINE = rf"my (?:\w+ ){{0,2}}{_OBJECT}s?"
_BE = r"(?:is|are|was|were|will|did|does|has|have|hasn'?t|isn'?t|wasn'?t|didn'?t)"

_PERSONAL = _phrases(
    rf"(?:where|when|why) {_BE} {_MINE}",
    rf"{_BE} {_MINE}",
    rf"(?:status|state|progress|total|amount|details|whereabouts|history) of {_MINE}",
    rf"(?:what|which|how much|how many|how long) .{{0,30}}\b(?:is|are|was|were|on|in|left (?:on|in)) {_MINE}",
    rf"(?:cancel|change|track|find|check|show|look up|update|reschedule|return) (?:me )?{_MINE} "
    r"(?:for me|please|to|from|with|number|no|#)",
    rf"{_OBJECT} (?:number|no\.?|id|nr\.?|#) ?:? ?#?[a-z]{{0,4}}-?\d{{3,}}",
    rf"{_OBJECT} #?\d{{3,}}",
    r"(?:was|were|am|have|had|did|do) i (?:been )?"
    r"(?:charged|billed|owe|paid|refunded|eligible|registered|signed up)",
    r"(?:i was|i have been|i'?ve been|i got) (?:double |over)?(?:charged|billed|refunded|locked)",
    r"my name is|my (?:customer|account|order|tracking) (?:number|id|no)",
)
_IDENTIFIER = re.compile(
    r"[\w.+-]+@[\w-]+\.\w{2,}"  # e-mail
    r"|(?<![\w.])\+?\d[\d /().-]{7,}\d(?!\w)"  # telephone and card numbers
    r"|#\d{3,}"
)


def reuse_of(request: Request, config: Config) -> Reuse:
    """What may be done with a request."""
    category = config.category(category_of(request))
    if request.cache.policy is CachePolicy.BYPASS or category.reuse == "none":
        return Reuse.POLICY
    if request.temperature is not None and request.temperature > category.max_temperature:
        return Reuse.TEMPERATURE
    question = question_of(request)
    if question is not None:
        if is_time_sensitive(question):
            return Reuse.TIME_SENSITIVE
        if is_user_specific(question):
            return Reuse.USER_SPECIFIC
    # What a tool call means depends on more than the words of the question.
    if category.reuse == "exact" or question is None or request.tools is not None:
        return Reuse.EXACT
    return Reuse.SEMANTIC


def is_time_sensitive(text: str) -> bool:
    """Whether the right answer changes with the hour or the day."""
    return _TIME.search(text) is not None


def is_user_specific(text: str) -> bool:
    """Whether the right answer depends on the asker's own data."""
    return _PERSONAL.search(text) is not None or _IDENTIFIER.search(text) is not None
