"""What is read off two questions."""

import pytest
from forebay_jobs.reuse.pair_features import FEATURES, pair_features


def differing(question: str, neighbour: str) -> dict[str, float]:
    return dict(zip(FEATURES, pair_features(question, neighbour, 0.95), strict=True))


@pytest.mark.parametrize(
    ("question", "neighbour", "feature"),
    [
        ("How do I reset 2 pumps?", "How do I reset 3 pumps?", "numbers_differ"),
        ("Who leads Spain today?", "Who leads France today?", "names_differ"),
        ("Can I return it?", "Can I not return it?", "negation_differs"),
        ("How do I increase my limit?", "How do I decrease my limit?", "opposites"),
        ("When did it arrive?", "Where did it arrive?", "asked_differs"),
        ("Where is my parcel?", "Where is your parcel?", "person_differs"),
        ("Does Rome border Paris?", "Does Paris border Rome?", "order_differs"),
    ],
)
def test_what_an_embedding_overlooks_is_seen(question: str, neighbour: str, feature: str) -> None:
    assert differing(question, neighbour)[feature] > 0
    assert differing(question, question)[feature] == 0


def test_an_ending_or_a_typo_is_no_other_word() -> None:
    found = differing("How do I activate my cards?", "How to activated my card")
    assert (found["content_missing"], found["content_added"], found["numbers_differ"]) == (0, 0, 0)
