"""What each function's role has to be allowed, on which resource: the template's grants, by their real names.

The template says the same in CloudFormation's words; tests/test_doctor.py compares the two.
"""

from aitems_local.target import Target, last_part

Needs = dict[str, tuple[str, ...]]
"""Actions by resource."""


def granted(bridge: Target) -> dict[str, Needs]:
    """Return them by the role's logical id. What networks and tracing need is not among them."""
    table = bridge.aws.dynamodb.describe_table(TableName=bridge.outputs["LedgerTable"])["Table"]
    ledger: Needs = {table["TableArn"]: ("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem")}
    keys: Needs = {bridge.outputs["KeysSecretArn"]: ("secretsmanager:GetSecretValue",)}
    callers: Needs = {bridge.outputs["CallersSecretArn"]: ("secretsmanager:GetSecretValue",)}
    poll = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
    stream = table.get("LatestStreamArn", f"{table['TableArn']}/stream/*")
    relayed: Needs = {
        _queue(bridge, "Queue"): ("sqs:SendMessage",),
        _queue(bridge, "RelayFailures"): ("sqs:SendMessage",),
        bridge.outputs["EventBusArn"]: ("events:PutEvents",),
        stream: ("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"),
        f"{table['TableArn']}/stream/*": ("dynamodb:ListStreams",),
    }
    needs: dict[str, Needs] = {
        "WebhookRole": {**ledger, **keys, **callers},
        "WorkerRole": {**ledger, **keys, _queue(bridge, "Queue"): poll, _queue(bridge, "DeadLetterQueue"): poll},
        "RelayRole": relayed,
    }
    if "ReplyRole" in bridge.resources:
        accounts: Needs = {bridge.outputs["ChatSecretArn"]: ("secretsmanager:GetSecretValue",)}
        reply: Needs = {table["TableArn"]: ("dynamodb:GetItem",)} | accounts | {_queue(bridge, "Replies"): poll}
        tell: Needs = {_queue(bridge, "Replies"): ("sqs:SendMessage",)}
        needs |= {"ReplyRole": reply, "WebhookRole": needs["WebhookRole"] | tell, "RelayRole": relayed | tell}
    for role, each in needs.items():
        logs = bridge.arn("logs", f"log-group:{bridge.physical(role.replace('Role', 'Logs'))}:log-stream:any")
        each[logs] = ("logs:CreateLogStream", "logs:PutLogEvents")
    return needs


def _queue(bridge: Target, logical: str) -> str:
    return bridge.arn("sqs", last_part(bridge.physical(logical)))
