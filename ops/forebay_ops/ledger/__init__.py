"""Keeps every reply, with what it cost and why, in Parquet files: exactly once, a folder a day."""
