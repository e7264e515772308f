"""Errors say where and what, and whether asking again may help."""

from forebay_schemas.errors import ConfigError, ErrorCode, ForebayError, InvalidRequest, RecordError


def test_an_invalid_request_names_field_problem_and_mend() -> None:
    error = InvalidRequest("top_p", "is 0", "give more")

    assert (str(error), error.field, error.code) == ("top_p: is 0; give more", "top_p", ErrorCode.INVALID_REQUEST)


def test_every_error_of_ours_can_be_caught_as_one() -> None:
    assert all(issubclass(kind, ForebayError) for kind in (ConfigError, RecordError, InvalidRequest))


def test_only_what_broke_here_is_worth_asking_again() -> None:
    assert [code for code in ErrorCode if code.retryable] == [ErrorCode.ENGINE_FAILED, ErrorCode.INTERNAL]
