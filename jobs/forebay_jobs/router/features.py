"""Cheap features of a request that say how hard it is, each in [0, 1]."""

import re
from typing import Final

from forebay_schemas.canonical import all_messages
from forebay_schemas.records import Request

from forebay_jobs.ends import ends

FEATURES: Final = (
    "length",
    "analytical",
    "creative",
    "context",
    "steps",
    "code",
    "maths",
    "format",
    "recognised",
    "numbers",
    "options",
    "negation",
    "comparison",
    "names",
)
"""Names, in order. ``recognised`` is 1 where the kind of question is known, and is not a sign of difficulty; those
after it are read by the learned scorer alone."""

VERSION = 1
"""Rises when a feature changes its meaning or a new one comes: weights that were learned on others do not fit."""

_FULL_LENGTH_TOKENS = 400
_CHARS_PER_TOKEN = 4  # English prose under the usual byte-pair vocabularies

_FACTUAL = re.compile(
    r"^\W*(?:please )?(?:what(?:'s| is| are| was| does)?|who|when|where|which|how (?:much|many|long|old|far|do|can)"
    r"|is|are|do|does|did|can|could|may|will|has|have|define|name|list|give me|tell me|translate|classify|extract)\b",
    re.IGNORECASE,
)
_ANALYTICAL = re.compile(
    r"\b(?:why|analy[sz]e|compar(?:e|ison)|contrast|evaluat\w+|assess|trade-?offs?|pros and cons|advantages"
    r"|implications?|root cause|diagnos\w+|explain (?:why|how|in detail)|justify|argue|recommend\w*|strateg\w+"
    r"|optimi[sz]\w+|design|plan for|prioriti[sz]e|estimate|forecast\w*|derive|prove|critique|review"
    r"|what if|investigate)\b",
    re.IGNORECASE,
)
_CREATIVE = re.compile(
    r"\b(?:write|draft|compose|story|poem|slogan|tagline|brainstorm|invent|imagine|rewrite|rephrase|creative|script|"
    r"blog post|newsletter|speech|essay)\b",
    re.IGNORECASE,
)
_REFERENCE = re.compile(
    r"\b(?:above|previous(?:ly)?|earlier|as (?:i|you|we) said|that one|the same|those|instead|again|the first one|"
    r"attached|following (?:text|document|table|log|conversation))\b",
    re.IGNORECASE,
)
_STEP = re.compile(
    r"^[ \t]{0,20}(?:\d{1,3}[.)]|[-*•])\s|\b(?:first(?:ly)?|second(?:ly)?|third(?:ly)?|then|next|finally|after that|"
    r"step by step|and also|as well as|in addition)\b|;",
    re.IGNORECASE | re.MULTILINE,
)
# Words of code that are words of English too (return, class, import) count only in the shape of code.
_CODE_SHAPE = re.compile(
    r"```|[{};]\s*\n|\w\(\)|\b(?:def|class|function|func|fn) \w{1,40} ?[({:]|\breturn [^\n.?!]{1,60};"
    r"|^\s{0,8}(?:import|from) [\w.]{1,60}(?:;| import |$)|\bSELECT\b.{1,200}\bFROM\b|\bINSERT INTO\b"
    r"|\b(?:const|let|var) \w{1,40} ?=|\b(?:public static|async def|await \w)|\b\w{1,40}(?:Exception|Error)\b",
    re.MULTILINE,
)
_CODE = re.compile(
    r"\b(?:regex|regular expression|stack ?trace|traceback|compiler|refactor\w*|unit tests?|API endpoint|algorithm"
    r"|python|javascript|typescript|rust (?:code|function|crate)|golang|kubernetes|docker(?:file)?"
    r"|(?:bash|shell) script|sql quer(?:y|ies)|yaml|source code|code review"
    r"|(?:write|implement|debug|call)\w* (?:a|an|this|the) function)\b",
    re.IGNORECASE,
)
_MATHS = re.compile(
    r"\\(?:frac|sum|int)|\b(?:calculate|comput\w+|equation|integral|derivative|probability|percent(?:age)?|average|"
    r"matrix|theorem|solve|how many .{0,60} if|interest rate|compound)\b|\d\s*[-+*/^=%]\s*\d|\d%",
    re.IGNORECASE,
)
_FORMAT = re.compile(
    r"\b(?:json|xml|csv|yaml|markdown|table|bullet points?|in exactly|at most \d+ words|\d+ words|columns?|schema|"
    r"template|headings?)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d[\d.,]*")
_OPTION = re.compile(r"^[ \t]{0,8}\(?[A-Ja-j][.)] ", re.MULTILINE)
_NEGATION = re.compile(r"\b(?:not|no|none|never|except|least|cannot|without|false|incorrect)\b|n't\b", re.IGNORECASE)
_COMPARISON = re.compile(
    r"\b(?:more|less|fewer|greater|larger|smaller|than|times|twice|half|double|triple|as (?:many|much)|remain\w*"
    r"|left)\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+")


def features_of(request: Request) -> dict[str, float]:
    """The features of a request, by name: of its last turn, and of how much stands before it.

    Passages count as length, and as context as much as a reference to what was said: there is something to relate to.
    """
    messages = all_messages(request)
    last = ends(messages[-1].content or "")
    turns = sum(1 for message in messages[:-1] if message.role in ("user", "assistant", "tool"))
    chars = sum(len(message.content or "") for message in messages if message.role not in ("system", "developer"))
    passage_chars = sum(map(len, request.passages))
    steps = len(_STEP.findall(last)) + max(0, last.count("?") - 1)
    analytical = len(_ANALYTICAL.findall(last))
    creative = bool(_CREATIVE.search(last))
    return {
        "length": _length(chars + passage_chars),
        "analytical": _saturate(analytical, 2),
        "creative": float(creative),
        "context": min(1.0, 0.5 * max(bool(_REFERENCE.search(last)), _length(passage_chars)) + 0.15 * turns),
        "steps": _saturate(steps, 4),
        "code": float(bool(_CODE.search(last) or _CODE_SHAPE.search(last))),
        "maths": float(bool(_MATHS.search(last))),
        "format": max(
            float(request.response_format is not None or request.tools is not None), 0.5 * bool(_FORMAT.search(last))
        ),
        "recognised": float(bool(analytical or creative or _FACTUAL.search(last))),
        "numbers": _saturate(len(_NUMBER.findall(last)), 12),
        "options": _saturate(len(_OPTION.findall(last)), 4),
        "negation": _saturate(len(_NEGATION.findall(last)), 4),
        "comparison": _saturate(len(_COMPARISON.findall(last)), 6),
        "names": _saturate(len(_NAME.findall(last)), 8),
    }


def _length(chars: int) -> float:
    return min(1.0, chars / _CHARS_PER_TOKEN / _FULL_LENGTH_TOKENS)


def _saturate(count: int, full: int) -> float:
    return min(1.0, count / full)
