"""What Lambda's runtime client costs by itself."""

from typing import Any


def handler(_event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Answer, and nothing else."""
    return {"statusCode": 200, "body": "hello"}
