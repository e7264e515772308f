"""What says that there is no answer is told from what only sounds like it."""

import pytest
from forebay_workers.refusal import is_refusal

REFUSALS = [
    "I can't help with that.",
    "I can\u2019t assist with this request.",
    "I cannot provide medical advice. Please see a doctor.",
    "I can not answer that question.",
    "I'm unable to help with that.",
    "I am not able to browse the internet.",
    "I won't be able to complete this request.",
    "I will not write malware.",
    "I'm sorry, but I cannot do that.",
    "I'm sorry, I can't assist with that request.",
    "I\u2019m sorry \u2014 but I can\u2019t.",
    "I am very sorry, but I am unable to open links.",
    "I'm really sorry that you're feeling this way, but I'm unable to provide the help that you need.",
    "Sorry, but I can't help with that.",
    "Sorry, I don't have access to your calendar.",
    "My apologies, but I cannot fulfill this request.",
    "I apologize, but I can't share that.",
    "I'm afraid I can't do that.",
    "Unfortunately, I cannot access external websites.",
    "Unfortunately I am currently unable to generate images.",
    "As an AI language model, I don't have personal opinions.",
    "As an AI, I cannot feel pain.",
    "As a large language model, I am unable to predict the lottery.",
    "As an AI assistant developed by ACME, I can't give legal advice.",
    "I'm sorry, but as an AI language model, I don't have access to real-time data.",
    "I don't have access to real-time information.",
    "I do not have enough information to answer.",
    "I don't have the ability to place orders.",
    "I don't know the answer to that.",
    "I don't know.",
    "I must respectfully decline to answer.",
    "I'd rather not answer that.",
    "I'm not comfortable discussing this.",
    "I am not authorized to share prices.",
    "That's not something I can help with.",
    "While I understand your frustration, I can't provide that.",
    "Hello! I'm sorry, but I can't help with that.",
    "Thank you for your question. Unfortunately, I cannot provide an estimate.",
    "**I'm sorry, but I can't help with that.**",
    "\n  I'm   sorry,\nbut I cannot\tanswer.",
]

ANSWERS = [
    "",
    "Paris.",
    "I can help with that. First, open the settings.",
    "I can't recommend this book highly enough!",
    "I can't wait to see you on Friday.",
    "I can't help but admire how it is built.",
    "I can't help smiling when I read it.",
    "I cannot stress enough how important backups are.",
    "I can't believe it's over.",
    "I can't access my account since Monday, could you look into it?",
    "I won't lie: the second half is slow.",
    "I'm sorry to hear that your parcel is late. Here is how to track it.",
    "I'm sorry for the delay. Your refund was sent today.",
    "I'm sorry, I can't make it to the meeting on Friday.",
    "I am sorry that I cannot attend your wedding.",
    "Sorry for the confusion! The capital is Canberra.",
    "Sorry is a 2015 song by Justin Bieber.",
    "Unfortunately, the store is closed on Sundays.",
    "Unfortunately, you cannot return worn shoes.",
    "As an AI engineer, you will train models.",
    "As an AI, I can help you write that letter.",
    "As an aid to memory, write it down.",
    "AI models cannot feel pain.",
    "You can't return it after 30 days.",
    "We cannot provide refunds after 30 days.",
    "It cannot be determined from the data.",
    "I don't know about you, but I like it.",
    "I don't have to tell you why this matters.",
    "I'm not sure whether he meant it, but the text suggests so.",
    "I'm allowed two guests, and so are you.",
    "To refuse politely, say: I'm sorry, but I cannot.",
    '"I can\'t help with that" is a refusal.',
    '{"answer": "I cannot help"}',
    'def refuse():\n    return "I can\'t help with that."',
    "The answer is 42. I cannot provide a proof here, but the idea is simple.",
    "Hi Sam, I can't thank you enough for the flowers.",
    "This is something I learned the hard way.",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_it_is_a_refusal(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_it_is_an_answer(text: str) -> None:
    assert not is_refusal(text)


def test_what_comes_after_the_beginning_is_part_of_an_answer() -> None:
    assert not is_refusal("The capital of France is Paris. " * 20 + "I'm sorry, but I cannot say more.")
