"""The threat model names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text()


def test_each_threat_is_tried_by_tests_that_exist() -> None:
    _, _, table = PAGE.partition("## Threats")
    threats = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(threats) > 10
    for threat in threats:
        tried = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", threat)
        assert tried, f"no test tries: {threat}"
        for file, test in tried:
            assert f"def {test}(" in (ROOT / file).read_text(), f"{file} has no {test}"
