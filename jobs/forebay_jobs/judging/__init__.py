"""Whether two answers agree: one judge for reuse, shadow comparisons and the comparison of models."""
