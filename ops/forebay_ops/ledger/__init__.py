"""Keeps every reply, with what it cost and why, and all feedback in Parquet files: exactly once, a folder a day."""
