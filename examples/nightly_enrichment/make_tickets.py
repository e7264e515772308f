"""Prints support tickets that nobody wrote as CSV: python make_tickets.py ROWS > tickets.csv

The same number gives the same file. Some tickets say the same, as people do; those are generated once.
"""

import csv
import random
import sys
from itertools import product

ITEMS = (
    "kettle", "desk lamp", "backpack", "office chair", "pair of boots", "raincoat", "bread knife", "phone case", "tent",
    "bicycle pump", "keyboard", "wall clock", "rice cooker", "suitcase", "garden hose", "toaster", "bookshelf", "drill",
)  # fmt: skip
PROBLEMS = (
    "has not arrived",
    "was left with a neighbour who is away",
    "arrived with a crack",
    "stopped working after a day",
    "is not the colour that I ordered",
    "went back two weeks ago and the money has not come",
    "was paid for twice",
    "is missing from the list of my orders",
    "shows up under the account of somebody else",
)
WISHES = (
    "Where is it?",
    "What happens now?",
    "I would like my money back.",
    "Please send another one.",
    "Who can look into this?",
    "I tried the chat and nobody answered.",
    "I need it by the weekend.",
    "Please call me.",
)
TICKETS = [f"My {item} {problem}. {wish}" for item, problem, wish in product(ITEMS, PROBLEMS, WISHES)]


def main() -> None:
    draw = random.Random(1)
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["ticket", "text"])
    table.writerows([f"T{number:07}", draw.choice(TICKETS)] for number in range(1, int(sys.argv[1]) + 1))


if __name__ == "__main__":
    main()
