"""Breaks the real stack on purpose, under steady load: nothing may be lost, answered twice, or answered wrongly.

``python -m tests.chaos`` injects one fault after the other and prints a table that `docs/chaos.md` explains. A fault is
one object in `faults/`; `load` asks, and `checker` knows what was asked and what came back.
"""
