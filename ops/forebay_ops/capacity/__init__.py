"""How much of everything a load takes, worked out from what one request was measured to cost."""
