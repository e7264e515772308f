"""The demo: a made-up company's support desk, played on the real local stack and shown as it is answered."""
