"""Filling the caches ahead: asking on the batch lane what will be asked again."""
