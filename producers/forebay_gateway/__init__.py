"""The gateway: OpenAI's HTTP interface in front of the same topics, so that a service changes only its base URL.

It is a thin client: what it answers it asks the pipeline through ``forebay_client``, and what several copies must agree
on (limits, repeated calls) is in Redis. ``app`` is where its parts meet.
"""
