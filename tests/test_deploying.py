"""What a deployer may do: what CloudFormation and SAM ask for this template, no less, and nothing besides."""

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from test_template import RESOURCES

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "deployer-policy.json").read_text("utf-8")
STATEMENTS: list[dict[str, Any]] = json.loads(TEXT)["Statement"]

HERE = "ap-northeast-2:123456789012"
API = "GET POST PUT PATCH DELETE"
TAGS = "TagResource UntagResource"
LOGS = "DeleteLogGroup PutRetentionPolicy DeleteRetentionPolicy GetDataProtectionPolicy"
DELIVERY = "CreateLogDelivery GetLogDelivery UpdateLogDelivery DeleteLogDelivery ListLogDeliveries"
FUNCTION = "GetFunctionConfiguration GetFunctionCodeSigningConfig GetFunctionRecursionConfig GetRuntimeManagementConfig"
CODE = "UpdateFunctionCode UpdateFunctionConfiguration PutFunctionConcurrency DeleteFunctionConcurrency DeleteFunction"
ROLE = "UpdateRole UpdateRoleDescription UpdateAssumeRolePolicy DeleteRole TagRole UntagRole"
ROLE_POLICIES = "PutRolePolicy GetRolePolicy DeleteRolePolicy"
TABLE = "DescribeTimeToLive UpdateTimeToLive DescribeContinuousBackups UpdateContinuousBackups"
TABLE_READ = "DescribeContributorInsights DescribeKinesisStreamingDestination GetResourcePolicy ListTagsOfResource"
CHANGES = "CreateChangeSet DescribeChangeSet ExecuteChangeSet DeleteChangeSet ListChangeSets"
STACKS = "DescribeStacks DescribeStackEvents DescribeStackResource DescribeStackResources ListStackResources"
BUCKET = "PutBucketPolicy GetBucketPolicy PutBucketVersioning PutBucketTagging PutEncryptionConfiguration"
QUEUE = "CreateQueue GetQueueAttributes GetQueueUrl SetQueueAttributes DeleteQueue ListQueueTags TagQueue UntagQueue"

NEEDED: dict[str, list[tuple[str, str, str]]] = {
    "AWS::ApiGatewayV2::Api": [
        ("apigateway", API, "arn:aws:apigateway:ap-northeast-2::/apis"),
        ("apigateway", API, "arn:aws:apigateway:ap-northeast-2::/apis/a1b2c3"),
        ("apigateway", API, "arn:aws:apigateway:ap-northeast-2::/tags/arn%3Aaws%3Aapigateway"),
    ],
    "AWS::ApiGatewayV2::Stage": [
        ("apigateway", API, "arn:aws:apigateway:ap-northeast-2::/apis/a1b2c3/stages/$default"),
        ("logs", f"{DELIVERY} PutResourcePolicy DescribeResourcePolicies DescribeLogGroups", "*"),
    ],
    "AWS::ApiGatewayV2::Integration": [
        ("apigateway", API, "arn:aws:apigateway:ap-northeast-2::/apis/a1b2c3/integrations/i"),
    ],
    "AWS::ApiGatewayV2::Route": [("apigateway", API, "arn:aws:apigateway:ap-northeast-2::/apis/a1b2c3/routes/r")],
    "AWS::ApiGatewayV2::DomainName": [
        ("apigateway", API, "arn:aws:apigateway:ap-northeast-2::/domainnames"),
        ("apigateway", API, "arn:aws:apigateway:ap-northeast-2::/domainnames/hooks.example.com"),
        (
            "iam",
            "CreateServiceLinkedRole",
            "arn:aws:iam::123456789012:role/aws-service-role/ops.apigateway.amazonaws.com/AWSServiceRoleForAPIGateway",
        ),
    ],
    "AWS::ApiGatewayV2::ApiMapping": [
        ("apigateway", API, "arn:aws:apigateway:ap-northeast-2::/domainnames/hooks.example.com/apimappings"),
    ],
    "AWS::CloudWatch::Alarm": [
        (
            "cloudwatch",
            f"PutMetricAlarm DeleteAlarms ListTagsForResource {TAGS}",
            f"arn:aws:cloudwatch:{HERE}:alarm:aitems-bridge-FailedAlarm-A1",
        ),
        ("cloudwatch", "DescribeAlarms", "*"),
    ],
    "AWS::CloudWatch::Dashboard": [
        (
            "cloudwatch",
            "PutDashboard GetDashboard DeleteDashboards",
            "arn:aws:cloudwatch::123456789012:dashboard/aitems-bridge-ap-northeast-2",
        ),
    ],
    "AWS::DynamoDB::Table": [
        (
            "dynamodb",
            f"CreateTable DescribeTable UpdateTable {TABLE} {TABLE_READ} {TAGS}",
            f"arn:aws:dynamodb:{HERE}:table/aitems-bridge-LedgerTable-A1",
        ),
    ],
    "AWS::Events::EventBus": [
        (
            "events",
            f"CreateEventBus DescribeEventBus UpdateEventBus DeleteEventBus ListTagsForResource {TAGS}",
            f"arn:aws:events:{HERE}:event-bus/aitems-bridge",
        ),
    ],
    "AWS::Events::Rule": [
        (
            "events",
            "PutRule DescribeRule DeleteRule PutTargets RemoveTargets ListTargetsByRule",
            f"arn:aws:events:{HERE}:rule/{bus}aitems-bridge-RequestRule-A1",
        )
        for bus in ("aitems-bridge/", "one-that-was-brought/", "")
    ],
    "AWS::IAM::Role": [
        (
            "iam",
            f"CreateRole GetRole {ROLE} {ROLE_POLICIES} ListRolePolicies ListAttachedRolePolicies",
            "arn:aws:iam::123456789012:role/aitems-bridge-WebhookRole-A1",
        ),
    ],
    "AWS::IAM::Policy": [
        (
            "iam",
            ROLE_POLICIES,
            "arn:aws:iam::123456789012:role/aitems-bridge-WebhookRole-A1",
        ),
    ],
    "AWS::Lambda::Function": [
        (
            "lambda",
            f"CreateFunction GetFunction {FUNCTION} {CODE} ListTags {TAGS}",
            f"arn:aws:lambda:{HERE}:function:aitems-bridge-WebhookFunction-A1",
        ),
        ("iam", "PassRole", "arn:aws:iam::123456789012:role/aitems-bridge-WebhookRole-A1"),
        ("ec2", "DescribeSubnets DescribeSecurityGroups DescribeVpcs DescribeNetworkInterfaces", "*"),
    ],
    "AWS::Lambda::Permission": [
        (
            "lambda",
            "AddPermission GetPolicy RemovePermission",
            f"arn:aws:lambda:{HERE}:function:aitems-bridge-WebhookFunction-A1",
        ),
    ],
    "AWS::Lambda::EventSourceMapping": [
        ("lambda", "CreateEventSourceMapping UpdateEventSourceMapping DeleteEventSourceMapping", "*"),
        (
            "lambda",
            f"GetEventSourceMapping ListTags {TAGS}",
            f"arn:aws:lambda:{HERE}:event-source-mapping:0f0e0d0c-0000-4000-8000-000000000000",
        ),
    ],
    "AWS::Logs::LogGroup": [
        ("logs", f"CreateLogGroup {LOGS} ListTagsForResource {TAGS}", f"arn:aws:logs:{HERE}:log-group:{name}")
        for name in ("aitems-bridge-WebhookLogs-A1", "/aws/vendedlogs/aitems-bridge/http:*")
    ],
    "AWS::SQS::Queue": [("sqs", QUEUE, f"arn:aws:sqs:{HERE}:aitems-bridge-Queue-A1")],
    "AWS::SQS::QueuePolicy": [("sqs", "SetQueueAttributes", f"arn:aws:sqs:{HERE}:aitems-bridge-Queue-A1")],
    "AWS::SecretsManager::Secret": [
        (
            "secretsmanager",
            f"CreateSecret DescribeSecret UpdateSecret {TAGS}",
            f"arn:aws:secretsmanager:{HERE}:secret:{name}-a1b2c3d4e5f6-AbCdEf",
        )
        for name in ("KeysSecret", "CallersSecret", "ChatSecret")
    ],
}
"""By resource type: the actions that creating, changing and deleting it takes, and on what.

From the handlers in CloudFormation's resource schemas, less what this template never asks for (encryption keys of one's
own, replicas, layers, file systems, managed policies) and less deleting what is kept. Access logs of an HTTP API:
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-logging.html. A secret that is given no name is
named after its logical id alone: https://docs.aws.amazon.com/secretsmanager/latest/userguide/cfn-example_secret.html
"""
BY_SAM = [
    (
        "cloudformation",
        f"{CHANGES} {STACKS} GetTemplate GetTemplateSummary DeleteStack TagResource",
        f"arn:aws:cloudformation:{HERE}:stack/{name}/0f0e0d0c",
    )
    for name in ("aitems-bridge", "aitems-bridge-76a0b1f3-CompanionStack", "aws-sam-cli-managed-default")
] + [
    ("cloudformation", "CreateChangeSet", "arn:aws:cloudformation:ap-northeast-2:aws:transform/Serverless-2016-10-31"),
    (
        "s3",
        f"CreateBucket {BUCKET} PutBucketPublicAccessBlock ListBucket GetBucketLocation",
        "arn:aws:s3:::aws-sam-cli-managed-default-samclisourcebucket-a1",
    ),
    ("s3", "GetObject PutObject DeleteObject", "arn:aws:s3:::aws-sam-cli-managed-default-samclisourcebucket-a1/a/b"),
]
"""What SAM does itself: `sam deploy` with a bucket of its own, and `sam delete`, which asks for a companion stack."""


def listed(value: str | list[str]) -> list[str]:
    """Return what may stand alone or in a list, as a list."""
    return [value] if isinstance(value, str) else value


def allowed(action: str, resource: str) -> bool:
    """Whether a statement allows the action on the resource."""
    return any(
        action in listed(statement["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in listed(statement["Resource"]))
        for statement in STATEMENTS
    )


def test_every_type_of_resource_is_known() -> None:
    """A resource of a new type is a decision about what a deployer may do."""
    assert {resource["Type"] for resource in RESOURCES.values()} == NEEDED.keys()


@pytest.mark.parametrize("kind", [*NEEDED, "by SAM itself"])
def test_a_deployer_may_do_what_it_takes(kind: str) -> None:
    """Each action that a type of resource takes is allowed, on what this stack names so."""
    for service, actions, resource in NEEDED.get(kind, BY_SAM):
        for action in actions.split():
            assert allowed(f"{service}:{action}", resource), f"{service}:{action} on {resource}"


def test_a_deployer_may_do_nothing_else() -> None:
    """No action is allowed that nothing above takes: no wildcard, and nothing at run time."""
    taken = {
        f"{service}:{action}"
        for needs in (*NEEDED.values(), BY_SAM)
        for service, actions, _ in needs
        for action in actions.split()
    }
    assert taken == {action for statement in STATEMENTS for action in listed(statement["Action"])}


@pytest.mark.parametrize(
    "action",
    [
        "dynamodb:GetItem",
        "dynamodb:DeleteTable",
        "secretsmanager:GetSecretValue",
        "secretsmanager:DeleteSecret",
        "sqs:ReceiveMessage",
        "lambda:InvokeFunction",
        "events:PutEvents",
        "logs:GetLogEvents",
    ],
)
def test_deploying_is_not_looking_in(action: str) -> None:
    """Who deploys reads no secret, no request and no log, sends nothing, and deletes nothing that is kept."""
    assert action not in {action for statement in STATEMENTS for action in listed(statement["Action"])}


def test_other_stacks_are_out_of_reach() -> None:
    """Names of another stack match nothing, and a role can be handed to Lambda only."""
    for service, actions, resource in [need for needs in NEEDED.values() for need in needs]:
        if "aitems-bridge" in resource:
            other = resource.replace("aitems-bridge", "payroll").replace("one-that-was-brought", "payroll")
            assert not any(allowed(f"{service}:{action}", other) for action in actions.split()), other
    (pass_role,) = [statement for statement in STATEMENTS if "iam:PassRole" in listed(statement["Action"])]
    assert pass_role["Condition"] == {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}


def test_the_policy_fits() -> None:
    """IAM takes 6,144 characters for a managed policy, white space not counted."""
    assert len(re.sub(r"\s", "", TEXT)) <= 6144
