"""What would have happened to traffic under other settings: traffic in columns, the job's decisions, and the sums."""
