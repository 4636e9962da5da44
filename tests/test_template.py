"""The rules that `template.yaml` keeps: who may do what, which numbers hold each other up, and what nobody may lose."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from samtranslator.parser.parser import Parser  # type: ignore[import-untyped]
from samtranslator.translator.translator import Translator  # type: ignore[import-untyped]
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[1]
SOURCE: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))
PARAMETERS: dict[str, Any] = SOURCE["Parameters"]
FUNCTIONS = ("WebhookFunction", "WorkerFunction", "RelayFunction", "ReplyFunction")
DAY = 86_400


def transformed() -> dict[str, Any]:
    """Return the resources as CloudFormation gets them, after SAM's own transform."""
    fragment = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))
    fragment["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
    session = boto3.Session(region_name="ap-northeast-2")
    template = Translator({}, Parser(), boto_session=session).translate(fragment, {})
    resources: dict[str, Any] = template["Resources"]
    return resources


RESOURCES = transformed()


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    """Return the resources of a type, by their logical id."""
    return {name: resource for name, resource in RESOURCES.items() if resource["Type"] == kind}


def properties(name: str) -> dict[str, Any]:
    """Return a resource's properties."""
    found: dict[str, Any] = RESOURCES[name]["Properties"]
    return found


def number(value: Any) -> int:  # noqa: ANN401  # whatever stands in a template
    """Return a number, or the default of the parameter that gives it."""
    return int(PARAMETERS[value["Ref"]]["Default"] if isinstance(value, dict) else value)


def listed(value: Any) -> list[Any]:  # noqa: ANN401  # as above
    """Return what may stand alone or in a list, as a list."""
    return value if isinstance(value, list) else [value]


def target(value: Any) -> str:  # noqa: ANN401  # as above
    """Name the resource that an ARN in a policy is made from."""
    match value:
        case {"Fn::If": [_, created, _]}:
            return target(created)
        case {"Fn::GetAtt": [name, attribute]}:
            return str(name) if attribute in ("Arn", "Id") else f"{name}.{attribute}"
        case {"Fn::Sub": str(text)}:
            return text
        case _:
            return str(value)


def policies(role: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a role's policies, each with the condition under which it applies ("" is always)."""
    for policy in role["Properties"]["Policies"]:
        match policy:
            case {"Fn::If": [condition, there, {"Ref": "AWS::NoValue"}]}:
                yield condition, there
            case _:
                yield "", policy


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every statement of every identity policy in the template, with the resource that it stands in."""
    for name, role in of_type("AWS::IAM::Role").items():
        for _, policy in policies(role):
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement
    for name, policy in of_type("AWS::IAM::Policy").items():
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            yield name, statement


def granted(role: str) -> set[tuple[str, str]]:
    """Return what a role may always do, as pairs of action and resource."""
    return {
        (action, target(resource))
        for condition, policy in policies(RESOURCES[role])
        if not condition
        for statement in policy["PolicyDocument"]["Statement"]
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }


# ---------------------------------------------------------------------------------------------------- who may do what

LEDGER = {
    ("dynamodb:GetItem", "LedgerTable"),
    ("dynamodb:PutItem", "LedgerTable"),
    ("dynamodb:UpdateItem", "LedgerTable"),
}
KEYS = {("secretsmanager:GetSecretValue", "KeysSecret")}


def logs(group: str) -> set[tuple[str, str]]:
    """Return what it takes to write one log group."""
    return {("logs:CreateLogStream", group), ("logs:PutLogEvents", group)}


def poll(queue: str) -> set[tuple[str, str]]:
    """Return what Lambda needs to read a queue for a function."""
    return {(f"sqs:{action}", queue) for action in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")}


def stream() -> set[tuple[str, str]]:
    """Return what Lambda needs to read the ledger's stream for a function."""
    reads = {
        (f"dynamodb:{action}", "LedgerTable.StreamArn")
        for action in ("DescribeStream", "GetRecords", "GetShardIterator")
    }
    return reads | {("dynamodb:ListStreams", "${LedgerTable.Arn}/stream/*")}


@pytest.mark.parametrize(
    ("role", "exactly"),
    [
        ("WebhookRole", LEDGER | KEYS | {("secretsmanager:GetSecretValue", "CallersSecret")} | logs("WebhookLogs")),
        ("WorkerRole", LEDGER | KEYS | poll("Queue") | poll("DeadLetterQueue") | logs("WorkerLogs")),
        (
            "RelayRole",
            {("sqs:SendMessage", "Queue"), ("sqs:SendMessage", "RelayFailures"), ("events:PutEvents", "Bus")}
            | stream()
            | logs("RelayLogs"),
        ),
    ],
)
def test_a_role_may_do_exactly_this(role: str, exactly: set[tuple[str, str]]) -> None:
    """A permission more or less is a decision: MiniStack enforces most of them, but not logs, polling and streams."""
    assert exactly == granted(role)


def test_each_function_has_its_own_role() -> None:
    """No function borrows another's permissions, and SAM adds no role or managed policy of its own making."""
    roles = {name: properties(name)["Role"]["Fn::GetAtt"][0] for name in FUNCTIONS}
    assert {name: name.replace("Function", "Role") for name in FUNCTIONS} == roles
    assert set(roles.values()) == set(of_type("AWS::IAM::Role"))
    assert not any("ManagedPolicyArns" in role["Properties"] for role in of_type("AWS::IAM::Role").values())


def test_only_lambda_takes_a_role() -> None:
    """Nobody but Lambda itself can become one of the functions."""
    for role in of_type("AWS::IAM::Role").values():
        trust = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        expected = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        assert [expected] == trust


def test_no_action_has_a_wildcard() -> None:
    """Each action is named in full; nothing is granted by omission either."""
    for where, statement in statements():
        assert not [action for action in listed(statement["Action"]) if "*" in action], where
        assert {"NotAction", "NotResource"}.isdisjoint(statement), where


def test_any_resource_only_where_aws_knows_no_other() -> None:
    """`*` stands only beside actions that name no resource: X-Ray's, and EC2's Describe."""
    unnamed = {
        action
        for _, statement in statements()
        if "*" in [target(resource) for resource in listed(statement["Resource"])]
        for action in listed(statement["Action"])
    }
    expected = {
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
    }
    assert expected == unnamed


@pytest.mark.parametrize("queue", ["Queue", "RuleDeadLetterQueue"])
def test_only_the_rule_puts_into_its_queues(queue: str) -> None:
    """EventBridge may send to the rule's two queues, for this one rule and nobody else's."""
    policy = properties(f"{queue}Policy")
    expected = {
        "Sid": "RequestRule",
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": {"Fn::GetAtt": [queue, "Arn"]},
        "Condition": {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["RequestRule", "Arn"]}}},
    }
    assert [{"Ref": queue}] == policy["Queues"]
    assert [expected] == policy["PolicyDocument"]["Statement"]


def test_only_this_api_invokes_the_webhook() -> None:
    """API Gateway may invoke one function, for the routes of this API."""
    (permission,) = of_type("AWS::Lambda::Permission").values()
    assert permission["Properties"]["FunctionName"] == {"Ref": "WebhookFunction"}
    assert permission["Properties"]["Principal"] == "apigateway.amazonaws.com"
    assert permission["Properties"]["SourceArn"]["Fn::Sub"].endswith(":${HttpApi}/*/*/hooks/*")


# ----------------------------------------------------------------------------------------------------- what they read

CALLING = {
    "AITEMS_BASE_URL",
    "AITEMS_UTC_OFFSET",
    "KEYS_SECRET_ARN",
    "LEDGER_TABLE",
    "RETENTION_DAYS",
    "GIVE_UP_AFTER_MINUTES",
    "QUIET_SECONDS",
    "LEASE_MARGIN_SECONDS",
    "BACKOFF_BASE_SECONDS",
}
POWERTOOLS = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_LOG_LEVEL"}


def environment(function: str) -> set[str]:
    """Return the names of a function's variables."""
    return set(properties(function)["Environment"]["Variables"])


@pytest.mark.parametrize(
    ("function", "names"),
    [
        ("WebhookFunction", CALLING | {"CALLERS_SECRET_ARN", "REPLIES_QUEUE_URL"}),
        ("WorkerFunction", CALLING | {"DEAD_LETTER_QUEUE_ARN"}),
        ("RelayFunction", {"QUEUE_URL", "RELAY_FAILURES_URL", "EVENT_BUS", "REPLIES_QUEUE_URL"}),
        (
            "ReplyFunction",
            {"LEDGER_TABLE", "CHAT_SECRET_ARN", "SLACK_RESPONSE_ORIGINS", "WORKS_API_URL", "WORKS_AUTH_URL"},
        ),
    ],
)
def test_a_function_gets_what_it_reads(function: str, names: set[str]) -> None:
    """A function is told what it needs and no more: the worker knows no callers, the relay no keys."""
    assert names | POWERTOOLS == environment(function)


def test_every_variable_is_read() -> None:
    """A variable in the template is named in the source; one that is not says something that is not so."""
    words = {
        node.value
        for module in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    given = set[str]().union(*(environment(function) for function in FUNCTIONS)) - POWERTOOLS
    assert given - words == set()


def test_handlers_exist() -> None:
    """Each function's handler is a module of the package, with a function of that name."""
    for function in FUNCTIONS:
        module, name = properties(function)["Handler"].rsplit(".", 1)
        tree = ast.parse((ROOT / "src" / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, function


def test_runtime() -> None:
    """All run on the Python and the processor that the build makes artefacts for."""
    for function in FUNCTIONS:
        assert properties(function)["Runtime"] == "python3.13"
        assert properties(function)["Architectures"] == ["arm64"]


# --------------------------------------------------------------------------------------------- numbers that must hold


def timeout(function: str, bound: str = "Default") -> int:
    """Return a function's time-out in seconds: as it is, or the most that its parameter lets it be."""
    value = properties(function)["Timeout"]
    return int(PARAMETERS[value["Ref"]][bound]) if isinstance(value, dict) else int(value)


def test_the_api_waits_longer_than_the_webhook() -> None:
    """The function is ended before the API gives up on it, so that no answer is lost on the last step."""
    api = number(properties("HttpIntegration")["TimeoutInMillis"]) / 1000
    assert timeout("WebhookFunction", "MaxValue") < api <= 30


@pytest.mark.parametrize(("function", "connect", "read", "before"), [("Webhook", 3, 15, 3), ("Worker", 3, 20, 15)])
def test_a_send_fits_into_a_function(function: str, connect: int, read: int, before: int) -> None:
    """What comes before a POST, the POST and the record of its outcome (5 s) take less than the function has."""
    assert before + connect + read + 5 < timeout(f"{function}Function")


@pytest.mark.parametrize("function", ["Webhook", "Worker"])
def test_the_shortest_function_can_still_send(function: str) -> None:
    """However short it is set, a function can open (3 s), connect (3 s), send and record (13 s): ledger rule 2."""
    assert PARAMETERS[f"{function}Timeout"]["MinValue"] > 3 + 3 + 13


def test_a_message_stays_away_while_it_is_worked_on() -> None:
    """Both queues hide a message for at least six times the worker's longest time-out."""
    for queue in ("Queue", "DeadLetterQueue"):
        assert number(properties(queue)["VisibilityTimeout"]) >= 6 * timeout("WorkerFunction", "MaxValue")


def test_an_outage_of_an_hour_makes_no_dead_letters() -> None:
    """A message is tried for an hour before it is given up as dead."""
    queue = properties("Queue")
    tries = number(queue["RedrivePolicy"]["maxReceiveCount"])
    assert tries * number(queue["VisibilityTimeout"]) >= 3600


def test_nothing_expires_before_it_is_looked_at() -> None:
    """Giving up comes long before the queue forgets, and the queue before the dead letters (same clock) do."""
    queue = number(properties("Queue")["MessageRetentionPeriod"])
    assert PARAMETERS["GiveUpAfterMinutes"]["MaxValue"] * 60 * 2 <= queue
    for name in ("DeadLetterQueue", "RuleDeadLetterQueue", "RelayFailures"):
        assert queue < number(properties(name)["MessageRetentionPeriod"]) == 14 * DAY


def test_no_pointer_comes_early() -> None:
    """A lease, its margins and the quiet time fit into the longest delay of a queue (900 s)."""
    margins = 2 * PARAMETERS["LeaseMarginSeconds"]["MaxValue"]
    assert timeout("WorkerFunction", "MaxValue") + margins + PARAMETERS["QuietSeconds"]["MaxValue"] <= 900


def test_the_quiet_time_is_a_minute() -> None:
    """From a POST's last byte (13 s before its deadline) to the next judgement is a minute, unless set otherwise."""
    assert 13 + PARAMETERS["LeaseMarginSeconds"]["Default"] + PARAMETERS["QuietSeconds"]["Default"] >= 60


def test_settled_requests_outlive_redeliveries() -> None:
    """A repetition is recognised for longer than the slowest sender redelivers (three days)."""
    assert PARAMETERS["RetentionDays"]["MinValue"] > 3
    assert PARAMETERS["RetentionDays"]["Default"] == 30


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_a_parameter_needs_no_thought(name: str) -> None:
    """Each parameter says what it is for, has a default, and a default within its own bounds."""
    parameter = PARAMETERS[name]
    assert parameter["Description"]
    if parameter["Type"] == "Number":
        default = parameter["Default"]
        assert parameter.get("MinValue", default) <= default <= parameter.get("MaxValue", default)
    assert any(
        name in group["Parameters"] for group in SOURCE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    )


# ------------------------------------------------------------------------------------------------- ledger and streams


def test_the_ledger_is_kept() -> None:
    """Deleting the stack, a replacement or a slip does not delete the ledger, and a month of it can be restored."""
    table = RESOURCES["LedgerTable"]
    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert table["Properties"]["DeletionProtectionEnabled"] is True
    assert table["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_the_ledger_has_one_key_and_no_index() -> None:
    """The hot path pays for two items and nothing else; what expires says so in `expires`."""
    table = properties("LedgerTable")
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["KeySchema"] == [{"AttributeName": "pk", "KeyType": "HASH"}]
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires", "Enabled": True}
    assert {"GlobalSecondaryIndexes", "LocalSecondaryIndexes"}.isdisjoint(table)


def test_the_stream_forgets_nothing() -> None:
    """The relay starts at the oldest record, tries without end, and is told before the stream forgets (24 h)."""
    mapping = properties("RelayFunctionLedger")
    assert properties("LedgerTable")["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert mapping["StartingPosition"] == "TRIM_HORIZON"
    assert mapping["MaximumRetryAttempts"] == -1
    assert mapping["BisectBatchOnFunctionError"] is True
    assert DAY - 3600 <= mapping["MaximumRecordAgeInSeconds"] < DAY
    assert mapping["DestinationConfig"] == {"OnFailure": {"Destination": {"Fn::GetAtt": ["RelayFailures", "Arn"]}}}


def test_the_relay_hears_of_requests_only() -> None:
    """The filter lets through every state of a request, and nothing without one."""
    (only,) = properties("RelayFunctionLedger")["FilterCriteria"]["Filters"]
    pattern = ast.literal_eval(only["Pattern"])
    states = ["received", "creating", "unknown", "created", "rejected", "failed"]
    assert {"dynamodb": {"NewImage": {"state": {"S": states}}}} == pattern


@pytest.mark.parametrize(("mapping", "queue"), [("Work", "Queue"), ("DeadLetters", "DeadLetterQueue")])
def test_the_worker_answers_for_each_message(mapping: str, queue: str) -> None:
    """Both queues take back only what failed, and lose nothing to a filter."""
    found = properties(f"WorkerFunction{mapping}")
    assert found["EventSourceArn"] == {"Fn::GetAtt": [queue, "Arn"]}
    assert found["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert number(found["BatchSize"]) == 10
    assert number(found["ScalingConfig"]["MaximumConcurrency"]) >= 2
    assert "FilterCriteria" not in found


# ------------------------------------------------------------------------------------------------------- doors, rest


def test_the_bridge_cannot_ask_itself() -> None:
    """The rule takes the one detail-type that asks, and what it cannot deliver goes to its own dead letters."""
    rule = properties("RequestRule")
    assert rule["EventPattern"]["detail-type"] == ["AiTEMS Service Creation Requested"]
    assert set(rule["EventPattern"]) == {"detail-type", "source"}
    (queue,) = rule["Targets"]
    assert queue["Arn"] == {"Fn::GetAtt": ["Queue", "Arn"]}
    assert queue["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["RuleDeadLetterQueue", "Arn"]}}


def test_routes() -> None:
    """There are two routes, to one function, in payload format 2.0."""
    routes = {route["Properties"]["RouteKey"] for route in of_type("AWS::ApiGatewayV2::Route").values()}
    assert {"POST /hooks/{caller}", "GET /hooks/{caller}/requests/{request_id}"} == routes
    assert properties("HttpIntegration")["PayloadFormatVersion"] == "2.0"
    assert properties("HttpStage")["StageName"] == "$default"
    assert properties("HttpStage")["AutoDeploy"] is True
    assert "CorsConfiguration" not in properties("HttpApi")


def test_the_access_log_keeps_secrets_out() -> None:
    """Neither headers, bodies nor addresses reach the access log, which is one line of JSON."""
    line = properties("HttpStage")["AccessLogSettings"]["Format"]
    assert "\n" not in line
    assert isinstance(ast.literal_eval(line), dict)
    assert not [word for word in ("header", "body", "path") if word in line]


@pytest.mark.parametrize("queue", sorted(of_type("AWS::SQS::Queue")))
def test_queues_are_encrypted(queue: str) -> None:
    """No message rests in the clear."""
    assert properties(queue)["SqsManagedSseEnabled"] is True


def test_the_ledger_is_encrypted() -> None:
    """The ledger rests under the account's own DynamoDB key."""
    assert properties("LedgerTable")["SSESpecification"] == {"SSEEnabled": True}


@pytest.mark.parametrize("secret", ["KeysSecret", "CallersSecret"])
def test_secrets_are_kept_and_unnamed(secret: str) -> None:
    """A secret outlives its stack, and has no name that would stay blocked after it."""
    assert RESOURCES[secret]["DeletionPolicy"] == "Retain"
    assert RESOURCES[secret]["UpdateReplacePolicy"] == "Retain"
    assert "Name" not in properties(secret)


def test_logs_are_kept_for_a_while() -> None:
    """Each function writes to a log group of the template, and every group forgets."""
    groups = of_type("AWS::Logs::LogGroup")
    assert {function.replace("Function", "Logs") for function in FUNCTIONS} < set(groups)
    for function in FUNCTIONS:
        expected = {"LogFormat": "Text", "LogGroup": {"Ref": function.replace("Function", "Logs")}}
        assert expected == properties(function)["LoggingConfig"]
    assert all(group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"} for group in groups.values())


def test_everything_is_tagged() -> None:
    """What can carry a tag says whose it is."""
    untaggable = {
        "AWS::ApiGatewayV2::ApiMapping",
        "AWS::ApiGatewayV2::Integration",
        "AWS::ApiGatewayV2::Route",
        "AWS::CloudWatch::Dashboard",
        "AWS::Events::Rule",
        "AWS::IAM::Policy",
        "AWS::Lambda::EventSourceMapping",
        "AWS::Lambda::Permission",
        "AWS::SQS::QueuePolicy",
    }
    for name, resource in RESOURCES.items():
        if resource["Type"] not in untaggable:
            tags = resource["Properties"]["Tags"]
            pairs = tags if isinstance(tags, dict) else {tag["Key"]: tag["Value"] for tag in tags}
            assert pairs.get("application") == "aitems-bridge", name


def test_what_the_stack_tells() -> None:
    """The outputs are the names that people, the CLI and other templates go by."""
    expected = {
        "WebhookUrl",
        "DomainTarget",
        "DomainHostedZoneId",
        "DashboardUrl",
        "EventBusName",
        "EventBusArn",
        "LedgerTable",
        "QueueUrl",
        "DeadLetterQueueUrl",
        "RelayFailuresUrl",
        "RuleDeadLetterQueueUrl",
        "RepliesQueueUrl",
        "ChatSecretArn",
        "KeysSecretArn",
        "CallersSecretArn",
    }
    assert expected == set(SOURCE["Outputs"])


def test_it_fits_into_one_request() -> None:
    """CloudFormation takes a template of 51,200 bytes without a bucket; SAM has one, where 1 MB is the limit."""
    assert (ROOT / "template.yaml").stat().st_size <= 51_200
