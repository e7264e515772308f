"""Traces of traffic: when requests arrive, what they ask and how long they are, from files of several forms."""
