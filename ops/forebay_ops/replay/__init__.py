"""Replays traces through a running pipeline, and adds up what came back."""
