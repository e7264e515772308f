"""The job's operators: each moves data between Flink and the plain Python beside it, and decides nothing."""
