"""What can go wrong with a request, and how it is said: field, problem and mend."""

from enum import StrEnum


class ErrorCode(StrEnum):
    """The codes of error replies and dead letters."""

    NOT_AVRO = "not_avro"
    """The value does not begin with the marker of the configured framing."""
    UNKNOWN_SCHEMA = "unknown_schema"
    """The value names a schema that is not in the bundled history or the registry."""
    MALFORMED = "malformed"
    """The value does not decode under the schema it names: truncated, trailing bytes, invalid UTF-8."""
    INVALID_REQUEST = "invalid_request"
    """A field has a value that cannot be answered."""
    TENANT_NOT_ALLOWED = "tenant_not_allowed"
    """The record names a tenant to which its topic is not bound."""
    TOO_LARGE = "too_large"
    """The record is above the size limit."""
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    """The prompt does not fit the model."""
    DEADLINE_EXCEEDED = "deadline_exceeded"
    """The deadline passed before there was an answer, or would have: others wait for the model too."""
    ENGINE_REFUSED = "engine_refused"
    """The engine does not accept this request: a schema that it cannot follow, for example."""
    ENGINE_FAILED = "engine_failed"
    """The engine broke while it answered; asking again may work."""
    GIVEN_UP = "given_up"
    """It failed, or ended its worker, as often as ``worker.max_attempts`` allows; it is in the dead letters."""
    UNDELIVERABLE = "undeliverable"
    """The brokers refuse what a worker has to publish: its topic is gone."""
    CANCELLED = "cancelled"
    """The asker, or an operator, took the request back."""
    INTERNAL = "internal"
    """A defect of this project met this request; its log says more, and asking again may work."""

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed when it is sent again; its id is free for that."""
        return self in (ErrorCode.ENGINE_FAILED, ErrorCode.INTERNAL)


class ForebayError(Exception):
    """Base of every error that this project raises on purpose."""


class ConfigError(ForebayError):
    """The configuration cannot work; the message names the setting, the problem and the mend."""


class RecordError(ForebayError):
    """A record cannot be accepted.

    Attributes:
        code: what kind of problem it is.
        field: the path of the field, or None where the record as a whole is the problem.
    """

    def __init__(self, code: ErrorCode, message: str, field: str | None = None) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.code = code
        self.field = field


class InvalidRequest(RecordError):
    """A field of a request, or of feedback on one, has a value that cannot be used."""

    def __init__(self, field: str, problem: str, mend: str, code: ErrorCode = ErrorCode.INVALID_REQUEST) -> None:
        super().__init__(code, f"{problem}; {mend}", field)
