"""OpenAI's files and batches: what was uploaded, and what became of it, for all copies of the gateway together.

Redis holds files, batches and who works on which. What is published of a batch Kafka alone knows, through
``forebay_client.batch``.
"""
