"""Comparing two models: reading prompts, when answers agree, what the figures allow to conclude."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from forebay_ops.cli.validate_model import validate_model
from forebay_ops.models import comparison
from forebay_ops.models.answering import NoAnswers, answer_all, spread
from forebay_ops.models.jobs import Answer, Answered, AnswerJob, Perplexity, PerplexityJob, Speed, Subject
from forebay_ops.models.prompts import NoPrompts, Prompt, read_prompts
from forebay_ops.models.verdict import Verdict, compare_perplexity, compare_tasks, conclude
from forebay_ops.request_lines import LineError
from forebay_ops.statistics import interval, least_prompts, prompts_needed
from forebay_schemas.config import load_config
from forebay_schemas.errors import ErrorCode
from forebay_schemas.records import Usage
from forebay_workers.backends import Generation, GenerationError, GenerationRequest, OnText, Unavailable


def lines(*fields: object) -> list[bytes]:
    return [item if isinstance(item, bytes) else json.dumps(item).encode() for item in fields]


def prompts(*fields: object) -> list[Prompt]:
    return read_prompts(lines(*fields), load_config(), max_tokens=256)


def many(count: int, **fields: object) -> list[Prompt]:
    return prompts(*({"task": "qa", "prompt": f"Question {number}?"} | fields for number in range(count)))


def texts(*values: str | None) -> list[Answer]:
    return [Answer(value) if value is not None else Answer(error="no luck") for value in values]


# --- prompts ------------------------------------------------------------------------------------------------------


def test_a_line_becomes_what_a_worker_would_ask_greedily() -> None:
    form = {"type": "json_object"}
    simple, full = prompts(
        {"task": "qa", "prompt": "Capital of France?", "answer": "Paris"},
        b"  ",
        {
            "task": "extraction",
            "system": "Answer as JSON.",
            "messages": [{"role": "user", "content": "Ada, London"}],
            "passages": ["Ada lives in London."],
            "max_tokens": 40,
            "temperature": 0.9,
            "stop": "\n\n",
            "response_format": form,
        },
    )
    assert (simple.line, simple.task, simple.answer, simple.request.max_tokens) == (1, "qa", "Paris", 256)
    assert (full.line, full.request.max_tokens, full.request.temperature) == (3, 40, 0.0)
    assert [message.role for message in full.request.messages] == ["system", "user"]
    assert full.request.messages[1].content == "Passages:\n\n[1] Ada lives in London.\n\nQuestion: Ada, London"
    assert (full.request.static_messages, full.request.stop, full.request.response_format) == (1, ["\n\n"], form)
    assert full.wants_json


@pytest.mark.parametrize(
    ("line", "where"),
    [
        (b"no json", "is no JSON"),
        ([1], "is no object"),
        ({"prompt": "Why?"}, "task: is absent"),
        ({"task": 3, "prompt": "Why?"}, "task: is int, not text"),
        ({"task": "qa"}, "messages: is absent"),
        ({"task": "qa", "prompt": ["Why?"]}, "prompt: is list, not text"),
        ({"task": "qa", "prompt": "Why?", "question": "Why?"}, "prompt: says the same as question"),
        ({"task": "qa", "prompt": "Why?", "answer": 4}, "answer: is int, not text"),
        ({"task": "qa", "prompt": "Why?", "compare": "words"}, "compare: is 'words'; use one of equal, tokens"),
        ({"task": "qa", "prompt": "Why?", "max_token": 5}, "max_token: is no field"),
        ({"task": "qa", "prompt": "Why?", "max_tokens": -1}, "max_tokens: "),
        ({"task": "qa", "messages": [{"role": "boss", "content": "Why?"}]}, "messages[0].role"),
        ({"task": "known", "prompt": "Why?", "answer": "so"}, "answer: this line has one, but line 1"),
        ({"task": "known", "prompt": "Why?", "compare": "tokens"}, "compare: is tokens, but equal on line 1"),
    ],
)
def test_a_bad_line_is_named_with_its_field(line: object, where: str) -> None:
    with pytest.raises(LineError, match=r"^line 2: ") as raised:
        prompts({"task": "known", "prompt": "Who?"}, line)
    assert where in str(raised.value)


def test_no_prompts_are_an_error() -> None:
    with pytest.raises(NoPrompts):
        prompts(b"", b"\n")


# --- statistics ---------------------------------------------------------------------------------------------------


def test_an_interval_holds_the_mean_and_narrows_with_the_count() -> None:
    few, more = interval([0, 1] * 10), interval([0, 1] * 1000)
    for found in (few, more):
        assert found.low < found.mean == 0.5 < found.high
    assert more.high - more.low < (few.high - few.low) / 5


def test_no_difference_in_a_few_prompts_is_no_certainty() -> None:
    assert interval([0.0] * 10).high == pytest.approx(0.308, abs=0.001)  # the exact binomial bound for 0 of 10
    assert interval([1.0]).low == pytest.approx(0.025)


def test_a_value_of_more_weight_counts_for_more_and_few_of_them_say_little() -> None:
    weighted = interval([1.0] * 20 + [-1.0] * 20, weights=[9.0] * 20 + [1.0] * 20)
    assert weighted.mean == pytest.approx(0.8)
    assert weighted.low > 0.5
    assert interval([1.0] * 11, weights=[100.0] + [1e-6] * 10).low == pytest.approx(0.025, abs=0.001)


@pytest.mark.parametrize("tolerance", [0.5, 0.05, 0.02])
def test_the_least_count_is_where_no_difference_is_enough(tolerance: float) -> None:
    least = least_prompts(tolerance)
    assert interval([0.0] * least).high <= tolerance < interval([0.0] * (least - 1)).high


def test_the_count_needed_grows_as_the_mean_nears_the_tolerance() -> None:
    values = [1.0] + [0.0] * 39
    near, far = prompts_needed(values, 0.03), prompts_needed(values, 0.2)
    assert near is not None
    assert far is not None
    assert near > 1000 > far
    assert prompts_needed(values, 0.025) is None


# --- verdict ------------------------------------------------------------------------------------------------------


def verdict(
    of: Sequence[Prompt], original: list[Answer], changed: list[Answer], **tolerances: float
) -> tuple[Verdict, str]:
    found, reasons = conclude(compare_tasks(of, original, changed, tolerances), None)
    return found, "\n".join(reasons)


def test_equal_answers_are_recommended() -> None:
    assert verdict(many(100), texts(*["yes"] * 100), texts(*["Yes."] * 100)) == (Verdict.RECOMMEND, "")


def test_differing_answers_are_refused() -> None:
    found, reasons = verdict(many(100), texts(*["yes"] * 100), texts(*["yes"] * 70, *["no"] * 30))
    assert found is Verdict.REFUSE
    assert "qa: differing answers 30.0% (" in reasons
    assert "tolerance of 5.0%" in reasons


def test_a_tolerance_of_the_task_counts_before_the_default() -> None:
    answers = texts(*["yes"] * 200), texts(*["yes"] * 180, *["no"] * 20)
    assert verdict(many(200), *answers, qa=0.2, default=0.01)[0] is Verdict.RECOMMEND
    assert verdict(many(200), *answers, default=0.2)[0] is Verdict.RECOMMEND
    assert verdict(many(200), *answers, qa=0.01, default=0.2)[0] is Verdict.REFUSE


def test_too_few_prompts_allow_no_conclusion_and_the_count_is_told() -> None:
    found, reasons = verdict(many(20), texts(*["yes"] * 20), texts(*["yes"] * 20))
    assert found is Verdict.TOO_FEW_PROMPTS
    assert "about 72 prompts would" in reasons
    assert verdict(many(1), texts("yes"), texts("no"))[0] is Verdict.TOO_FEW_PROMPTS
    on_the_edge = verdict(many(100), texts(*["yes"] * 100), texts(*["yes"] * 95, *["no"] * 5))
    assert on_the_edge[0] is Verdict.TOO_FEW_PROMPTS
    assert "more prompts are unlikely to" in on_the_edge[1]


def test_where_the_right_answer_is_known_only_accuracy_counts() -> None:
    of = many(100, answer="yes")
    wrong_in_two_ways = texts(*["yes"] * 50, *["no"] * 50), texts(*["yes"] * 50, *["perhaps"] * 50)
    assert verdict(of, *wrong_in_two_ways)[0] is Verdict.RECOMMEND
    [task] = compare_tasks(of, *wrong_in_two_ways, {})
    assert (task.accuracy, task.agreement.mean) == ((0.5, 0.5), 0.5)
    found, reasons = verdict(of, texts(*["yes"] * 100), texts(*["yes"] * 60, *["no"] * 40))
    assert found is Verdict.REFUSE
    assert "lost accuracy 40.0%" in reasons
    assert verdict(of, texts(*["no"] * 100), texts(*["yes"] * 100))[0] is Verdict.RECOMMEND  # it may get better


def test_free_text_can_be_compared_by_tokens() -> None:
    of = many(100, compare="tokens")
    long, near = "one two three four five six seven eight nine ten", "one two three four five six seven eight nine 10"
    assert verdict(of, texts(*[long] * 100), texts(*[near] * 100), qa=0.15)[0] is Verdict.RECOMMEND
    assert verdict(of, texts(*[long] * 100), texts(*[near] * 100), qa=0.05)[0] is Verdict.REFUSE


def test_invalid_json_counts_beside_the_answers() -> None:
    of = many(100, response_format={"type": "json_object"}, answer='{"a": 1}')
    good, cut = '{"a": 1}', '{"a":'
    [task] = compare_tasks(of, texts(*[good] * 100), texts(*[good] * 80, *[cut] * 20), {"qa": 0.5})
    assert task.invalid_json == (0.0, 0.2)
    assert {check.loss: check.finding for check in task.checks} == {
        "lost accuracy": "within",
        "added invalid JSON": "within",
    }
    found, reasons = verdict(of, texts(*[cut] * 100), texts(*[cut] * 100))
    assert (found, reasons) == (Verdict.RECOMMEND, "")  # as bad as the original


def test_a_prompt_without_an_answer_counts_only_against_the_changed_model() -> None:
    original, changed = texts("yes", None, "yes"), texts("yes", "yes", None)
    [task] = compare_tasks(many(3), original, changed, {})
    assert (task.prompts, task.unanswered, task.agreement.mean) == (2, 1, 0.5)


def test_a_risen_perplexity_is_refused_and_that_of_another_tokenizer_not_compared() -> None:
    risen = compare_perplexity(Perplexity(10.0, 1000), Perplexity(11.0, 1000), {})
    found, [reason] = conclude([], risen)
    assert found is Verdict.REFUSE
    assert "perplexity rises by 10.0% from 10 to 11" in reason
    assert conclude([], compare_perplexity(risen.original, risen.changed, {"perplexity": 0.2}))[0] is Verdict.RECOMMEND
    assert compare_perplexity(Perplexity(10.0, 1000), Perplexity(20.0, 900), {}).rise is None


# --- answering ----------------------------------------------------------------------------------------------------


class _Model:
    """Answers with the prompt; "refuse" in it is refused, "away" is an endpoint that is away."""

    model_id, synthetic, concurrency, takes = "echo", False, 2, 2

    def __init__(self) -> None:
        self.running = self.most_running = 0
        self.asked: list[GenerationRequest] = []
        self.stopped = False

    async def start(self) -> None: ...

    async def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation:
        self.asked.append(request)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        text = request.messages[-1].content or ""
        if "refuse" in text:
            raise GenerationError(ErrorCode.ENGINE_REFUSED, "not this")
        if "away" in text:
            raise Unavailable("nobody is there")
        usage = Usage(prompt_tokens=1, completion_tokens=3)
        return Generation(text=text, finish_reason="stop", usage=usage, model_id=self.model_id)

    def can_rest(self, *, structured: bool) -> bool:
        return False

    def hold(self, generation_id: str) -> None: ...

    def release(self, generation_id: str) -> None: ...

    async def stop(self) -> None:
        self.stopped = True


def asked(*questions: str) -> list[GenerationRequest]:
    return [prompt.request for prompt in prompts(*({"task": "qa", "prompt": text} for text in questions))]


async def test_answers_keep_the_order_and_no_more_run_at_once_than_the_model_takes() -> None:
    model, told = _Model(), list[str]()
    done = await answer_all(model, asked("one", "refuse", "two", "three"), 3, told.append)
    assert [answer.text for answer in done.answers] == ["one", None, "two", "three"]
    assert done.answers[1].error == "not this"
    assert (model.most_running, model.stopped) == (2, True)
    assert len(done.speed.rounds_tokens_per_s) == 3
    assert done.speed.tokens_per_s in done.speed.rounds_tokens_per_s
    assert "answering, 4 of 4" in told
    assert (
        len({request.generation_id for request in model.asked if request.max_tokens > 1}) == 16
    )  # once, and three rounds


@pytest.mark.parametrize(("question", "error"), [("refuse", NoAnswers), ("away", Unavailable)])
async def test_a_model_that_answers_nothing_is_an_error(question: str, error: type[Exception]) -> None:
    model = _Model()
    with pytest.raises(error):
        await answer_all(model, asked(question), 3, lambda _: None)
    assert model.stopped


def test_a_sample_is_spread_over_the_whole_file() -> None:
    requests = [replace(asked("x")[0], generation_id=str(number)) for number in range(100)]
    assert [request.generation_id for request in spread(requests, 4)] == ["0", "25", "50", "75"]
    assert spread(requests[:3], 4) == requests[:3]


# --- the command --------------------------------------------------------------------------------------------------

ORIGINAL = """
[models.original]
backend = "openai"
endpoint = { url = "http://localhost:1/v1" }
price = { input_per_1k = 0.0, output_per_1k = 0.0 }
[models.changed]
backend = "vllm"
weights = "changed"
price = { input_per_1k = 0.0, output_per_1k = 0.0 }
[models.known]
price = { input_per_1k = 0.0, output_per_1k = 0.0 }
[tiers.only]
complexity_up_to = 1.0
model = "original"
max_tokens = 10
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`validate-model` with 80 prompts, and processes that answer "yes", or "no" for names that end in ``worse``."""
    config, file = tmp_path / "forebay.toml", tmp_path / "prompts.jsonl"
    config.write_text(ORIGINAL)
    file.write_bytes(b"\n".join(lines(*({"task": "qa", "prompt": f"{number}?"} for number in range(80)))))
    monkeypatch.setenv("FOREBAY_CONFIG", str(config))
    monkeypatch.chdir(tmp_path)

    def answers_of(job: AnswerJob, doing: Callable[[str], None]) -> Answered:
        worse = job.subject.name.endswith("worse")
        return Answered(texts(*["no" if worse else "yes"] * len(job.requests)), Speed(9.0, [9.0] * 3, 20.0, 1.0))

    def perplexity_of(job: PerplexityJob, doing: Callable[[str], None]) -> Perplexity:
        return Perplexity(5.0, 100)

    monkeypatch.setattr(comparison, "answers_of", answers_of)
    monkeypatch.setattr(comparison, "perplexity_of", perplexity_of)
    return lambda *arguments: CliRunner().invoke(validate_model, [*arguments, "--prompts", str(file)])


def folder(name: str) -> str:
    Path(name).mkdir()
    (Path(name) / "config.json").write_text("{}")
    return name


def test_the_command_recommends_with_exit_code_0_and_writes_a_report(command: Callable[..., Result]) -> None:
    Path("text.txt").write_text("Once upon a time.")
    result = command("changed", folder("same"), "--text", "text.txt", "--out", "report.json")
    assert (result.exit_code, result.exception) == (0, None)
    assert "recommend: same in place of changed" in result.stdout
    report = json.loads(Path("report.json").read_text())
    assert report["verdict"] == "recommend"
    assert report["tasks"][0]["checks"][0]["finding"] == "within"
    assert report["perplexity"]["rise"] == 0
    assert len(report["rows"]) == 80


def test_the_command_refuses_with_exit_code_1_and_its_reasons(command: Callable[..., Result]) -> None:
    result = command("original", folder("worse"), "--tolerance", "qa=0.5")
    assert result.exit_code == 1
    assert "refuse: worse in place of original" in result.stdout
    assert "differing answers 100.0%" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("original", "nowhere"), "nowhere: is neither under models"),
        (("original", "known"), "models.known.backend: is absent"),
        (("original", "changed", "--tolerance", "summary=0.1"), "--tolerance summary: no such thing is compared"),
        (("original", "changed", "--tolerance", "perplexity=0.1"), "give --text too"),
        (("original", "changed", "--text", "prompts.jsonl"), "models.original.backend: perplexity needs vllm"),
    ],
)
def test_what_cannot_be_compared_is_said_before_a_model_is_loaded(
    command: Callable[..., Result], arguments: tuple[str, ...], problem: str
) -> None:
    result = command(*arguments)
    assert result.exit_code == 1
    assert problem in str(result.exception)


@pytest.mark.parametrize("option", ["--tolerance=qa", "--tolerance=qa=0", "--engine=[1]", "--engine={", "--rounds=2"])
def test_options_without_sense_are_refused(command: Callable[..., Result], option: str) -> None:
    assert command("original", "changed", option).exit_code == 2


def test_a_folder_is_a_model_with_the_given_engine_arguments(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    config = load_config()
    model = Subject(str(tmp_path), {"max_model_len": 512}).configured(config).models[str(tmp_path)]
    assert (model.backend, model.weights, model.engine) == ("vllm", str(tmp_path), {"max_model_len": 512})
