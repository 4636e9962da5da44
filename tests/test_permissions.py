"""What Lambda itself does with a function's role (reading for it, writing its log) is allowed on the deployed stack.

MiniStack enforces what the functions call, and an end-to-end test fails without any of that. It does these other
things without asking, so here its policy simulator is asked, with the deployed roles and the real names of resources.
"""

import pytest

from aitems_local.stack import Stack, load_template


def arn(stack: Stack, what: str) -> str:
    """Return the name that Lambda would ask about: a queue, the ledger's stream, any stream of it, or a log stream."""
    if what in ("Queue", "DeadLetterQueue"):
        attributes = stack.cloud.sqs.get_queue_attributes(QueueUrl=stack.resources[what], AttributeNames=["QueueArn"])
        return attributes["Attributes"]["QueueArn"]
    if what.endswith("Logs"):
        groups = stack.cloud.logs.describe_log_groups(logGroupNamePrefix=stack.resources[what])["logGroups"]
        return groups[0]["arn"].removesuffix(":*") + ":log-stream:2026/11/23/[$LATEST]0"
    table = stack.cloud.dynamodb.describe_table(TableName=stack.resources["LedgerTable"])["Table"]
    return table["LatestStreamArn"] if what == "stream" else f"{table['TableArn']}/stream/*"


def allowed(stack: Stack, role: str, action: str, resource: str) -> bool:
    """Ask the policy simulator."""
    found = stack.cloud.iam.get_role(RoleName=stack.resources[role])["Role"]["Arn"]
    answer = stack.cloud.iam.simulate_principal_policy(
        PolicySourceArn=found, ActionNames=[action], ResourceArns=[resource]
    )
    (result,) = answer["EvaluationResults"]
    return result["EvalDecision"] == "allowed"


@pytest.mark.parametrize(
    ("role", "action", "what"),
    [
        *(
            (f"{f}Role", f"logs:{a}", f"{f}Logs")
            for f in ("Webhook", "Worker", "Relay")
            for a in ("CreateLogStream", "PutLogEvents")
        ),
        *(
            ("WorkerRole", f"sqs:{action}", queue)
            for queue in ("Queue", "DeadLetterQueue")
            for action in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
        ),
        ("RelayRole", "dynamodb:DescribeStream", "stream"),
        ("RelayRole", "dynamodb:GetRecords", "stream"),
        ("RelayRole", "dynamodb:GetShardIterator", "stream"),
        ("RelayRole", "dynamodb:ListStreams", "streams"),
    ],
)
def test_lambda_can_do_its_part(stack: Stack, role: str, action: str, what: str) -> None:
    """Lambda can read each source of a function and write its log, under the function's own role and nobody else's."""
    resource = arn(stack, what)
    roles = [name for name in load_template()["Resources"] if name.endswith("Role")]
    assert [name for name in roles if allowed(stack, name, action, resource)] == [role]
