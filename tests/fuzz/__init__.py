"""Hostile input for everything that reads what others write.

``targets`` names what is fed. `test_targets` feeds each a little with every run of the tests, and ``make fuzz`` a
million inputs, led by coverage.
"""
