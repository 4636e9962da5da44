"""The webhook's job as the documentation of its parts suggests it: the peer.

Powertools' resolver with validation, idempotency and parameters, ``requests``, boto3, and ``PutEvents`` in line.
"""

import base64
import hashlib
import hmac
import json
import os
import time
from typing import Annotated, Any, Literal

import boto3
import requests
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Path
from aws_lambda_powertools.utilities import parameters
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel, Field

logger = Logger()
app = APIGatewayHttpResolver(enable_validation=True)
store = DynamoDBPersistenceLayer(table_name=os.environ["LEDGER_TABLE"])
config = IdempotencyConfig()
events = boto3.client("events")


class CreateService(BaseModel):
    """What may be asked for."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{2,19}$")]
    description: Annotated[str, Field(max_length=100)] = ""
    type: Literal["batch", "interval"] = "batch"


@idempotent_function(data_keyword_argument="key", persistence_store=store, config=config)  # type: ignore[untyped-decorator]  # Powertools has it so
def create(*, key: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Create the service and announce it."""
    keys = parameters.get_secret(os.environ["KEYS_SECRET_ARN"], transform="json", max_age=300)
    timestamp, target = str(int(time.time() * 1000)), "/api/v1/services"
    text = f"POST {target}\n{timestamp}\n{keys['access_key']}".encode()
    answer = requests.post(
        os.environ["AITEMS_BASE_URL"] + target,
        json=asked,
        headers={
            "x-ncp-apigw-timestamp": timestamp,
            "x-ncp-iam-access-key": keys["access_key"],
            "x-ncp-apigw-signature-v2": base64.b64encode(
                hmac.digest(keys["secret_key"].encode(), text, hashlib.sha256)
            ).decode(),
        },
        timeout=(3, 15),
    )
    answer.raise_for_status()
    service: dict[str, Any] = answer.json()
    events.put_events(
        Entries=[
            {
                "Source": "bench",
                "DetailType": "Created",
                "Detail": json.dumps({"key": key, "service": service}),
                "EventBusName": os.environ["EVENT_BUS"],
            }
        ]
    )
    return service


@app.post("/hooks/<caller>")
def hook(asked: CreateService, caller: Annotated[str, Path()]) -> Response[dict[str, Any]]:
    """Verify and create."""
    callers = parameters.get_secret(os.environ["CALLERS_SECRET_ARN"], transform="json", max_age=300)
    headers, body = app.current_event.headers, app.current_event.body or ""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    key = base64.b64decode(callers[caller]["secrets"][0].removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    fresh = abs(int(headers["webhook-timestamp"]) - time.time()) < 300
    if not fresh or not hmac.compare_digest(expected, headers["webhook-signature"]):
        return Response(401, "application/json", {})
    return Response(201, "application/json", create(key=headers["webhook-id"], asked=asked.model_dump()))


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one call of the HTTP API."""
    config.register_lambda_context(context)
    return app.resolve(event, context)
