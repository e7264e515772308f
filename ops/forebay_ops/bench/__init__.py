"""Benchmarks: what this project costs and saves, each measured beside its baseline in the same run."""
