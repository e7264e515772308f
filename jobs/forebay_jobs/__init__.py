"""The streaming job: `pipeline` is the graph; `operators` run in it; the rest is plain Python without Flink."""
