"""The tier worker: tasks from Kafka, generations from a model, replies and progress back in one transaction."""
