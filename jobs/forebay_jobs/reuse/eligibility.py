"""Which requests are never answered from a cache by their nature: time-sensitive and user-specific ones.

Rules on the last user turn, in English. They lean to caution: a question wrongly held back costs one generation,
one wrongly reused costs a wrong answer. What they miss of the time-sensitive ones is for ``recogniser``.
"""

import hashlib
import re
from enum import StrEnum

from forebay_schemas.canonical import category_of, question_of
from forebay_schemas.categories import CategoryConfig
from forebay_schemas.config import Config
from forebay_schemas.records import CachePolicy, CacheScope, Request

from forebay_jobs.ends import ends


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
    # For text in lower case: ignoring case in the pattern takes four times as long, for each request.
    return re.compile(r"\b(?:" + "|".join(phrases) + r")\b")


_UNIT = r"(?:hour|morning|afternoon|evening|night|week(?:end)?|month|quarter|year|season)"
_DAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day"

# No part of these patterns repeats without a bound: a text that is made for it must not hold the job up.
_TIME = _phrases(
    r"today|tonight|tomorrow|yesterday",
    r"now(?! that)|at the moment|at present|as of|so far|nowadays|these days|lately",
    # The noun of electricity, and what is meant by it in menus, do not change with the day.
    r"currently|(?<!electric )(?<!alternating )(?<!direct )(?<!what )(?<!much )"
    r"current (?!flow|draw|rating|through|in|of|password|user|directory|folder|page|line|row)\w{1,30}",
    r"(?<!at the )latest|newest|most recent|recent(?:ly)?|trending",
    rf"(?:this|next|last|coming) (?:{_UNIT}|{_DAY})|on {_DAY}",
    r"next (?:train|bus|flight|delivery|release|update|sale|holiday|game|match|eclipse|full moon|collection)",
    r"(?:in|within|for|over) the (?:next|last|past) (?:few |\d{1,4} )?(?:minute|hour|day|week|month)s?",
    r"\d{1,4} (?:minute|hour|day|week|month)s? ago|just happened",
    r"how many (?:hours|days|weeks|months) (?:until|till|are left)",
    r"(?:what|how)(?:'?s| is| will| was) .{0,20}weather(?! station)|the weather (?:in|for|on|be|like)|weather forecast",
    r"forecast for|will it (?:rain|snow)|is it (?:raining|snowing|sunny)",
    r"how (?:cold|hot|warm) is it|temperature outside",
    r"(?:the|any|breaking) news|news (?:about|on|from)|headlines",
    r"(?:stock|share|gold|silver|oil|gas|bitcoin|crypto) prices?|price of (?:gold|silver|oil|gas|bitcoin)",
    r"how much is .{0,30}\bworth|the exchange rate|exchange rate (?:between|from|of|for)",
    r"the score|who is winning|who won (?:the |last )?(?:game|match|race|election|final)",
    r"(?:how|what)(?:'?s| is) (?:the )?traffic",
    r"what (?:time|day|date) is it",
    r"what(?:'?s| is) the (?:time|date)(?! (?:format|complexity|limit|zone|difference|value|of|for|to|between))",
    r"still (?:open|closed|available|in stock|valid|down|running|on(?= sale|\W*$))|in stock|sold out",
    r"(?:any|an|the latest) updates? (?:on|about)|out yet|how long ago|how long (?:is it )?until",
    r"(?:is|are) there (?:(?:an?|any) )?(?:outage|strike|delay|disruption)s?|are there (?:any )?seats",
    r"(?:train|flight|ferry|bus|metro|\d{1,2}:\d\d)(?: [\w'-]{1,20}){0,3} (?:delayed|on time|running late)",
    r"when (?:do|does|will|is|are) (?:the )?(?:[\w'-]{1,20} ){1,4}(?:next|again|back(?= (?:up|online)|\W*$))",
    r"what will the (?:temperature|weather|price)|(?:shares?|stock|bitcoin|ethereum|markets?) (?:trading|doing)",
    r"what (?:week|month|quarter) (?:of the year )?(?:is it|are we in)|this (?:christmas|easter|new year)",
)
# At the beginning of a sentence: "how can I tell that the pump is down" asks for something else.
_STATE_NOW = re.compile(
    r"(?:^|[.!?,] )\W{0,3}(?:is|are) (?:(?:the|your|our|my|this) [\w' -]{1,40}|[\w.-]{1,30}) "
    r"(?:down|offline|open|closed)(?:$|[.!?,])"
)

_OBJECT = (
    r"(?:order|parcel|package|delivery|shipment|account|invoice|bill|balance|payment|refund|subscription|plan|booking"
    r"|reservation|ticket|case|claim|contract|appointment|application|request|return|locker|salary|loan|membership"
    r"|points|credit|calendar|schedule|meeting|flight|prescription|exam|grade|transaction|direct debit|shift|share"
    r"|portfolio|voucher|warranty|basket|wish list|inbox|unread message|report|test result)"
)
_MINE = rf"(?:my|our) (?:[\w-]{{1,30}} ){{0,2}}{_OBJECT}s?"
_BE = r"(?:is|are|was|were|will|does|did|do|has|have|had)(?:n'?t)?"
_DO = (
    r"(?:cancel|change|track|find|check|show|look up|update|reschedule|return|renew|pause|close|delete|resend|send"
    r"|give|tell)"
)
_ASK = r"(?:please|can you|could you|would you|will you|i want to|i need to|i would like to|i'?d like to)"

_PERSONAL = _phrases(
    rf"{_OBJECT} (?:number |no\.? |id )?#?[a-z]{{0,4}}-?\d{{3,}}|serial (?:number )?\w{{0,4}}\d{{3,}}",
    r"(?:am|was|were) i(?! (?:supposed|allowed|to\b|right|correct))|(?:do|did) i (?:qualify|owe|have to pay)",
    r"i (?:live|am staying|work) (?:in|at|near)|will (?:it|they|mine) arrive|has (?:it|mine) (?:shipped|arrived)",
    rf"{_BE} {_MINE}|wh(?:at|ere|en)'?s {_MINE}|(?:until|till) {_MINE}",
    rf"(?:status|state|progress|total|amount|details|whereabouts|history|copy) of {_MINE}",
    rf"(?:what|which|how much|how many|how long) .{{0,30}}\b(?:on|in|left (?:on|in)|due on) {_MINE}",
    rf"{_ASK},? (?:please |help me )?{_DO} (?:me )?{_MINE}",
    rf"(?:^|[.!?] ){_DO} (?:me )?{_MINE}|{_DO} (?:me )?{_MINE} (?:for me|please)",
    r"what(?:'?s| is| are| was| were) my|(?:who|where|how \w{1,10}) am i(?! (?:supposed|allowed|to\b))",
    rf"(?:what|which) {_OBJECT}s? (?:am i|do i have(?! to\b)|did i)|what did i (?:order|buy|pay|book)",
    r"(?:have|did) you (?:receive|get|got|see)(?:d|n)? (?:my|our)|when (?:do|will) i (?:get|receive) (?:my|the)",
    r"i (?:still )?(?:have(?:n't| not)|did(?:n't| not)|never) (?:yet )?(?:received?|got(?:ten)?|get)",
    rf"{_OBJECT} (?:number|no\.?|id|nr\.?|#) ?(?:is|:)? ?#?[a-z]{{0,4}}-?\d{{3,}}",
    rf"{_OBJECT} #?\d{{3,}}",
    r"(?:was|were|am|have|had|did|do) i (?:been )?"
    r"(?:charged|billed|owe|pay|paid|refunded|eligible|entitled|registered|signed up|ordered?|booked)(?! to\b)",
    r"i (?:was|have been|'?ve been|got) (?:\w{1,12} )?(?:charged|billed|refunded|locked out)",
    r"how (?:much|many) .{0,30}\b(?:do i (?:owe|have(?! to))|have i|did i)",
    rf"(?:do|did) i have (?:any|an?) (?:\w{{1,20}} )?{_OBJECT}s?",
    r"i (?:ordered|bought|paid|booked|returned|cancell?ed|sent) .{0,60}"
    r"\b(?:ago|(?:has|have|is|was|did)(?:n'?t| not)|still|never|yesterday)",
    rf"(?<!if ){_MINE} (?:still |never )?(?:{_BE} )?(?:not |still |never )?(?:yet )?(?:been )?"
    r"(?:arrive|come|came|ship|deliver|pay|paid|late|lost|overdue|missing)(?:d|ped|ed)?",
    r"my name is|my \w{1,20} (?:number|id|no) is|near me|near here|my (?:nearest|closest)",
    r"in my (?:area|city|town|region|neighbou?rhood)",
)
_QUOTED = re.compile(r'"[^"]{1,200}"|\u201c[^\u201c\u201d]{1,200}\u201d')
_MATERIAL = re.compile(r"\W{0,3}(?:translate|classify|correct|rewrite|rephrase|extract|shorten)\b[^:]{0,80}:")
"""What a task is done to, after the colon, is not what is asked."""
_LEAST_ASKED = 12
"""Characters besides quotations: with fewer, the quotation is the question."""
_IDENTIFIER = re.compile(
    r"[\w+-]@[\w-]{1,63}\.\w\w"  # e-mail
    r"|(?<![\w.])(?:\+|\(?0)(?:[ /()-]{0,2}\d){8,14}(?!\w)"  # telephone: a date has fewer digits
    r"|(?<![\w.])\d{4}(?:[ -]?\d{4}){2,3}[ -]?\d{1,4}(?!\w)"  # card
    r"|#\d{3,}"
)

RULES = hashlib.blake2b(
    repr([rule.pattern for rule in (_TIME, _STATE_NOW, _PERSONAL, _QUOTED, _MATERIAL, _IDENTIFIER)]).encode(),
    digest_size=8,
).hexdigest()
"""Names these rules: what they once let be reused, they still do."""


def reuse_of(request: Request, config: Config) -> Reuse:
    """What may be done with a request."""
    category = config.category(category_of(request))
    withheld = withheld_by_policy(request.cache.policy, request.temperature, category)
    return withheld or within_category(nature_of(request), category)


def withheld_by_policy(policy: CachePolicy, temperature: float | None, category: CategoryConfig) -> Reuse | None:
    """Why the request's wishes or its category's settings forbid reuse; None where they do not."""
    if policy is CachePolicy.BYPASS or category.reuse == "bypass":
        return Reuse.POLICY
    if temperature is not None and temperature > category.max_temperature:
        return Reuse.TEMPERATURE
    return None


def nature_of(request: Request) -> Reuse:
    """What a request itself allows, whatever is configured: its text, its tools and its cache options."""
    question = question_of(request)
    if question is not None:
        timely, personal = is_time_sensitive(question), is_user_specific(question)
        # A time to live says how long this very answer holds, the scope `user` that it is shared with nobody else.
        # Said by the service itself, that outweighs what rules make of the words; but not for other words.
        holds = request.cache.ttl_s is not None
        if personal and not (holds and request.cache.scope is CacheScope.USER):
            return Reuse.USER_SPECIFIC
        if timely and not holds:
            return Reuse.TIME_SENSITIVE
        if timely or personal:
            return Reuse.EXACT
    # What a tool call means depends on more than the words of the question.
    return Reuse.EXACT if question is None or request.tools is not None else Reuse.SEMANTIC


def within_category(nature: Reuse, category: CategoryConfig) -> Reuse:
    """What is left of a request's nature where its category reuses only equal requests."""
    return Reuse.EXACT if nature is Reuse.SEMANTIC and category.reuse == "exact" else nature


def is_time_sensitive(text: str) -> bool:
    """Whether the right answer changes with the hour or the day."""
    text = _judged(text)
    return _TIME.search(text) is not None or _STATE_NOW.search(text) is not None


def is_user_specific(text: str) -> bool:
    """Whether the right answer depends on the asker's own data."""
    text = _judged(text)
    return _PERSONAL.search(text) is not None or _IDENTIFIER.search(text) is not None


def _judged(text: str) -> str:
    """What the rules read, on one line in lower case: without what is quoted, or given to be worked on, which is
    talked about."""
    text = " ".join(ends(text).lower().replace("\u2019", "'").split())  # phones write the other apostrophe
    task = _MATERIAL.match(text)
    if task is not None:
        return task.group()
    asked = _QUOTED.sub(" ", text)
    return asked if len(asked.strip()) >= _LEAST_ASKED else text
