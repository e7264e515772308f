"""Everything that reads what others write, by name. What is quick gets most of the inputs."""

from .target import Target

TARGETS = {
    target.name: target
    for target in (
        Target("of_schemas", "records", share=278),
        Target("of_schemas", "texts", share=170),
        Target("of_schemas", "digests", share=20),
        Target("of_jobs", "intake", share=10),
        Target("of_jobs", "requests", share=20),
        Target("of_jobs", "results", share=80),
        Target("of_jobs", "commands", share=25),
        Target("of_answers", "schemas", share=80),
        Target("of_prompts", "prompts", share=60),
        Target("of_files", "templates", share=157),
        Target("of_files", "jsonl", share=12),
        Target("of_files", "csv", share=12),
        Target("of_files", "parquet", share=6),
        Target("of_gateway", "bodies", share=20),
        Target("of_gateway", "calls", share=50),
    )
}
