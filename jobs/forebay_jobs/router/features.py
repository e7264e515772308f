"""Cheap features of a request that say how hard it is, each in [0, 1]."""

import re
from typing import Final

from forebay_schemas.canonical import all_messages
from forebay_schemas.records import Request

from forebay_jobs.ends import ends

from .phrases import Phrases

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
_PHRASES = Phrases(
    {
        "analytical": (
            "why", "analy[sz]e", "compar(?:e|ison)", "contrast", r"evaluat\w+", "assess", "trade-?offs?",
            "pros and cons", "advantages", "implications?", "root cause", r"diagnos\w+",
            "explain (?:why|how|in detail)", "justify", "argue", r"recommend\w*", r"strateg\w+", r"optimi[sz]\w+",
            "design", "plan for", "prioriti[sz]e", "estimate", r"forecast\w*", "derive", "prove", "critique", "review",
            "what if", "investigate",
        ),
        "creative": (
            "write", "draft", "compose", "story", "poem", "slogan", "tagline", "brainstorm", "invent", "imagine",
            "rewrite", "rephrase", "creative", "script", "blog post", "newsletter", "speech", "essay",
        ),
        "reference": (
            "above", "previous(?:ly)?", "earlier", "as (?:i|you|we) said", "that one", "the same", "those", "instead",
            "again", "the first one", "attached", "following (?:text|document|table|log|conversation)",
        ),
        "step": (
            "first(?:ly)?", "second(?:ly)?", "third(?:ly)?", "then", "next", "finally", "after that", "step by step",
            "and also", "as well as", "in addition",
        ),
        "code": (
            "regex", "regular expression", "stack ?trace", "traceback", "compiler", r"refactor\w*", "unit tests?",
            "api endpoint", "algorithm", "python", "javascript", "typescript", "rust (?:code|function|crate)", "golang",
            "kubernetes", "docker(?:file)?", "bash script", "shell script", "sql quer(?:y|ies)", "yaml", "source code",
            "code review",
            *(rf"{verb}\w* (?:a|an|this|the) function" for verb in ("write", "implement", "debug", "call")),
        ),
        # Words of English too: where one stands, `_CODE_SHAPE` is searched.
        "keyword": (
            "def", "class", "function", "func", "fn", "return", "import", "from", "select", "insert", "const", "let",
            "var", "public", "async", "await",
        ),
        "maths": (
            "calculate", r"comput\w+", "equation", "integral", "derivative", "probability", "percent(?:age)?",
            "average", "matrix", "theorem", "solve", "how many .{0,60} if", "interest rate", "compound",
        ),
        "format": (
            "json", "xml", "csv", "yaml", "markdown", "table", "bullet points?", "in exactly", r"at most \d+ words",
            "columns?", "schema", "template", "headings?",
        ),
        "negation": (
            "not", "no", "none", "never", "except", "least", "cannot", "without", "false", "incorrect",
        ),
        "comparison": (
            "more", "less", "fewer", "greater", "larger", "smaller", "than", "times", "twice", "half", "double",
            "triple", "as (?:many|much)", r"remain\w*", "left",
        ),
    }
)  # fmt: skip
# Signs that are no words. What an expression begins with is what its search can skip to: hence the borders behind it.
_LIST_MARK = re.compile(r"^[ \t]{0,20}(?:\d{1,3}[.)]|[-*•])\s", re.MULTILINE)
_CODE_MARK = re.compile(r"```|[{};]\s*\n|\(\)(?<=\w\(\))|E(?<=\wE)(?:rror|xception)\b")
_CODE_SHAPE = re.compile(
    r"\b(?:(?:def|class|function|func|fn) \w{1,40} ?[({:]|return [^\n.?!]{1,60};|SELECT\b.{1,200}\bFROM\b"
    r"|INSERT INTO\b|(?:const|let|var) \w{1,40} ?=|public static|async def|await \w)"
    r"|^\s{0,8}(?:import|from) [\w.]{1,60}(?:;| import |$)",
    re.MULTILINE,
)
_FORMULA = re.compile(r"\\(?:frac|sum|int)|\d(?:\s*[-+*/^=%]\s*\d|%)")
_WORD_COUNT = re.compile(r"\d(?<!\w\d)\d* words\b")
_NOT = re.compile(r"'t\b(?<=n't)")
_NUMBER = re.compile(r"\d[\d.,]*")
_OPTION = re.compile(r"^[ \t]{0,8}\(?[A-Ja-j][.)] ", re.MULTILINE)
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
    plain = last.lower()
    found = _PHRASES.counts(plain)
    steps = found["step"] + len(_LIST_MARK.findall(last)) + last.count(";") + max(0, last.count("?") - 1)
    analytical, creative = found["analytical"], bool(found["creative"])
    code = found["code"] or _CODE_MARK.search(last) or (found["keyword"] and _CODE_SHAPE.search(last))
    formatted = found["format"] or _WORD_COUNT.search(plain)
    return {
        "length": _length(chars + passage_chars),
        "analytical": _saturate(analytical, 2),
        "creative": float(creative),
        "context": min(1.0, 0.5 * max(bool(found["reference"]), _length(passage_chars)) + 0.15 * turns),
        "steps": _saturate(steps, 4),
        "code": float(bool(code)),
        "maths": float(bool(found["maths"] or _FORMULA.search(last))),
        "format": max(float(request.response_format is not None or request.tools is not None), 0.5 * bool(formatted)),
        "recognised": float(bool(analytical or creative or _FACTUAL.search(last))),
        "numbers": _saturate(len(_NUMBER.findall(last)), 12),
        "options": _saturate(len(_OPTION.findall(last)), 4),
        "negation": _saturate(found["negation"] + len(_NOT.findall(plain)), 4),
        "comparison": _saturate(found["comparison"], 6),
        "names": _saturate(len(_NAME.findall(last)), 8),
    }


def _length(chars: int) -> float:
    return min(1.0, chars / _CHARS_PER_TOKEN / _FULL_LENGTH_TOKENS)


def _saturate(count: int, full: int) -> float:
    return min(1.0, count / full)
