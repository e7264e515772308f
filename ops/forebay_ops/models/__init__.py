"""Comparing a changed model, such as a quantised one, with its original: answers by task, perplexity, speed."""
