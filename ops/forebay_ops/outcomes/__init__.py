"""What became of the answers that the router chose a tier for: audits, escalations, feedback."""
