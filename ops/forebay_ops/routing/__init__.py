"""Learning a router's weights from labels, and measuring how well they route."""
