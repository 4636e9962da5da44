"""The webhook's job by hand, with nothing that is not needed when everything goes well: the floor.

Bare botocore clients on one session, urllib3, hmac, two DynamoDB writes and the POST. It validates little, explains
nothing, and makes a second service when its answer is lost. Nobody should run this.
"""

import base64
import hashlib
import hmac
import json
import os
import time
from typing import Any

import certifi
import urllib3
from botocore.config import Config
from botocore.session import get_session

_config = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2})
_session = get_session()
_dynamodb: Any = _session.create_client("dynamodb", config=_config)
_secrets: Any = _session.create_client("secretsmanager", config=_config)
_http = urllib3.PoolManager(ca_certs=certifi.where())
_table = os.environ["LEDGER_TABLE"]
_target = "/api/v1/services"
_known: dict[str, Any] = {}


def _secret(variable: str) -> Any:  # noqa: ANN401  # JSON
    if variable not in _known:
        _known[variable] = json.loads(_secrets.get_secret_value(SecretId=os.environ[variable])["SecretString"])
    return _known[variable]


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Verify, record, create, record, answer."""
    caller = _secret("CALLERS_SECRET_ARN")[event["pathParameters"]["caller"]]
    headers, body = event["headers"], event["body"]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    key = base64.b64decode(caller["secrets"][0].removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    fresh = abs(int(headers["webhook-timestamp"]) - time.time()) < 300
    if not fresh or not hmac.compare_digest(expected, headers["webhook-signature"]):
        return {"statusCode": 401, "body": "{}"}
    asked = json.loads(body)
    if not 3 <= len(asked["name"]) <= 20:
        return {"statusCode": 422, "body": "{}"}
    pk = {"pk": {"S": f"request#{headers['webhook-id']}"}}
    _dynamodb.put_item(
        TableName=_table,
        Item=pk | {"state": {"S": "creating"}, "request": {"S": body}},
        ConditionExpression="attribute_not_exists(pk)",
    )
    keys, timestamp = _secret("KEYS_SECRET_ARN"), str(int(time.time() * 1000))
    text = f"POST {_target}\n{timestamp}\n{keys['access_key']}".encode()
    answer = _http.request(
        "POST",
        os.environ["AITEMS_BASE_URL"] + _target,
        body=json.dumps(asked).encode(),
        headers={
            "Content-Type": "application/json",
            "x-ncp-apigw-timestamp": timestamp,
            "x-ncp-iam-access-key": keys["access_key"],
            "x-ncp-apigw-signature-v2": base64.b64encode(
                hmac.digest(keys["secret_key"].encode(), text, hashlib.sha256)
            ).decode(),
        },
        timeout=urllib3.Timeout(connect=3, read=15),
        retries=False,
    )
    _dynamodb.update_item(
        TableName=_table,
        Key=pk,
        UpdateExpression="SET #state = :created, answer = :answer",
        ExpressionAttributeNames={"#state": "state"},
        ExpressionAttributeValues={":created": {"S": "created"}, ":answer": {"S": answer.data.decode()}},
    )
    return {"statusCode": answer.status, "headers": {"Content-Type": "application/json"}, "body": answer.data.decode()}
