"""Quality parity: what is lost by routing, against sending everything to the largest tier."""
