"""What is asked, and the one right answer to it, which says whose question it was."""


def question(tenant: str, subject: int) -> str:
    """A question that no other tenant asks."""
    return f"What does reservoir {subject} of {tenant} hold?"


def answer(asked: str) -> str:
    """What a model of the suite says; all of it follows from the question."""
    return f"It holds what was asked for in: {asked}"
