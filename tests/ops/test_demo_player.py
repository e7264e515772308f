"""The play: the order of the lines, what waits for what, and an end in every case."""

from collections.abc import Sequence

from forebay_ops.demo.player import OnAnswer, Pace, play
from forebay_ops.demo.script import Expect, Line

from tests.ops.demo_doubles import Audience, Pipeline, a_dead_letter, a_line, a_reply

AT_ONCE = Pace(settle_s=0.0, patience_s=0.3)


def test_every_line_is_sent_in_order_and_answered():
    audience, pipeline = Audience(), Pipeline()
    lines = [a_line(1, at=1), a_line(2, at=1), a_line(3, at=2)]

    played = play(lines, pipeline, audience, AT_ONCE)

    assert pipeline.sent == [1, 2, 3]
    assert [item.line.number for item in played.outcomes] == [1, 2, 3]
    assert audience.seen == played.outcomes
    assert not played.unanswered
    assert not played.unsent


class AnswersWhenSent(Pipeline):
    """Answers its silent lines as soon as another line has been sent."""

    def __init__(self, answers: dict[int, int]) -> None:
        super().__init__(silent=list(answers.values()))
        self._answers = answers

    def send(self, line: Line, on_answer: OnAnswer) -> None:
        super().send(line, on_answer)
        if line.number in self._answers:
            self.answer(self._answers[line.number])


def test_a_line_waits_for_the_one_it_builds_on_and_holds_up_no_other():
    pipeline = AnswersWhenSent({3: 1})
    lines = [a_line(1, at=1, name="first"), a_line(2, at=2, after="first"), a_line(3, at=3)]

    play(lines, pipeline, Audience(), AT_ONCE)

    assert pipeline.sent == [1, 3, 2]


def test_a_line_waits_until_the_caches_have_learnt_the_answer_it_builds_on():
    audience, pipeline = Audience(), Pipeline()
    lines = [a_line(1, at=1, name="first"), a_line(2, at=2, after="first")]

    played = play(lines, pipeline, audience, Pace(settle_s=0.2, patience_s=5.0))

    assert pipeline.sent == [1, 2]
    assert played.duration_s >= 0.2


def test_lines_of_one_moment_are_sent_together_and_a_full_window_holds_back_the_next_moment():
    pipeline = AnswersWhenSent({3: 1})
    lines = [a_line(1, at=1), a_line(2, at=2), a_line(3, at=2), a_line(4, at=3)]
    audience = Audience()

    play(lines, pipeline, audience, Pace(window=2, settle_s=0.0, patience_s=0.3))

    assert pipeline.sent == [1, 2, 3, 4]
    assert max(map(len, audience.awaited)) <= 2


def test_silence_ends_the_play_and_says_what_was_sent_in_vain_and_what_was_not_sent():
    pipeline = Pipeline(silent=[1])
    lines = [a_line(1, name="lost"), a_line(2, at=2, after="lost"), a_line(3, at=3)]

    played = play(lines, pipeline, Audience(), AT_ONCE)

    assert [item.line.number for item in played.outcomes] == [3]
    assert [line.number for line in played.unanswered] == [1]
    assert [line.number for line in played.unsent] == [2]


def test_the_watcher_hears_what_is_awaited_and_for_how_long_nothing_came():
    heard: list[tuple[Sequence[Line], int, float]] = []

    class Listener(Audience):
        def waiting(self, in_flight: Sequence[Line], to_send: int, silent_s: float) -> None:
            heard.append((in_flight, to_send, silent_s))

    line = a_line(1, name="lost")
    play([line, a_line(2, at=2, after="lost")], Pipeline(silent=[1]), Listener(), AT_ONCE)

    in_flight, to_send, silent_s = heard[-1]
    assert list(in_flight) == [line]
    assert to_send == 1
    assert silent_s > AT_ONCE.patience_s


def test_a_dead_letter_is_awaited_beside_the_error_reply():
    class ReplyFirst(Pipeline):
        def answer(self, number: int) -> None:
            line, on_answer = self._waiting.pop(number)
            on_answer(a_reply(line))
            on_answer(a_dead_letter())

    played = play([a_line(1, expect=Expect.DEAD_LETTER)], ReplyFirst(), Audience(), AT_ONCE)

    (outcome,) = played.outcomes
    assert outcome.reply is not None
    assert outcome.dead_letter is not None
    assert outcome.kind is Expect.DEAD_LETTER


def test_where_no_asker_can_be_read_the_dead_letter_is_all():
    played = play([a_line(1, expect=Expect.DEAD_LETTER, tenant=None, raw="?")], Pipeline(), Audience(), AT_ONCE)

    (outcome,) = played.outcomes
    assert outcome.reply is None
    assert outcome.latency_ms is None
    assert outcome.kind is Expect.DEAD_LETTER


def test_a_second_answer_to_a_line_that_is_done_is_passed_over():
    class Twice(Pipeline):
        def answer(self, number: int) -> None:
            line, on_answer = self._waiting.pop(number)
            on_answer(a_reply(line))
            on_answer(a_reply(line))

    played = play([a_line(1), a_line(2, at=2)], Twice(), Audience(), AT_ONCE)

    assert [item.line.number for item in played.outcomes] == [1, 2]
