"""What watches rollouts and moves them."""
