"""How well reuse keeps its promise, on streams of questions whose right answers are known."""
