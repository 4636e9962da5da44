"""What is counted and measured: each fact one line on standard output, in CloudWatch's embedded metric format.

CloudWatch makes the metrics of the log line, so that nothing is called and nobody waits. There is one dimension, the
service, which is the stack's name: a request's id stands beside the numbers for who reads the line, and costs nothing
there. Without a namespace (``POWERTOOLS_METRICS_NAMESPACE``) nothing is written.

Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import contextlib
import json
import os
import sys
import time

UNITS = {
    "Created": "Count",
    "Rejected": "Count",
    "Failed": "Count",
    "Unknown": "Count",
    "Adopted": "Count",
    "Replayed": "Count",
    "SignatureRefused": "Count",
    "CallersInvalid": "Count",
    "KeysRefused": "Count",
    "ClockMismatch": "Count",
    "ReplyLapsed": "Count",
    "UpstreamLatency": "Milliseconds",
    "TimeToOutcome": "Milliseconds",
    "OpenAge": "Seconds",
    "UnknownAge": "Seconds",
}
"""Every metric there is, and its unit; docs/operations.md says what each means."""


def put(request_id: str | None = None, **values: float) -> None:
    """Write the values down, by the names that ``UNITS`` has, together with the request they are about.

    A line is one write, for the worker's threads share the output. What clocks that differ make negative is 0: beside
    one negative value CloudWatch gives no percentile. Raises nothing: no request fails for a number.
    """
    with contextlib.suppress(Exception):
        namespace = os.environ.get("POWERTOOLS_METRICS_NAMESPACE")
        if not namespace:
            return
        metrics = [{"Name": name, "Unit": UNITS[name]} for name in values]
        directive = {"Namespace": namespace, "Dimensions": [["service"]], "Metrics": metrics}
        line = {
            "_aws": {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": [directive]},
            "service": os.environ.get("POWERTOOLS_SERVICE_NAME", "aitems-bridge"),
            **({"request_id": request_id} if request_id else {}),
            **{name: max(0, value) for name, value in values.items()},
        }
        sys.stdout.write(json.dumps(line) + "\n")
