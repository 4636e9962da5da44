// A consumer of the bridge's announcements: a Lambda function behind an EventBridge rule with the pattern in rule.json.
//
// EventBridge delivers at least once, and in no order. So every announcement is written down under its `event_id`, which
// is the same each time it comes, on condition that it is not there yet. That one write is the whole effect and the
// memory of it at once: whatever follows starts from the table, for instance from its stream.
//
// Wants the environment variable OUTCOMES_TABLE, a DynamoDB table whose key is the string `event_id`. Nothing is to be
// installed: AWS's SDK is part of Lambda's Node.js.

export const handler = (event) => consume(event, writeOnce);

/** Take in one event and return what was made of it; `write` writes it down and says whether it is new. */
export async function consume(event, write) {
  const { metadata, data } = event.detail;
  if (metadata.version !== "1") {
    throw new Error(`events of version ${metadata.version} mean something else: read its schema first`);
  }
  const outcome = read(event["detail-type"], data);
  if (outcome === null) return "passed over";
  const { event_id, request_id, idempotency_key, settled_at } = metadata;
  const isNew = await write({ event_id, request_id, idempotency_key, settled_at, ...outcome });
  return isNew ? outcome.outcome : "known";
}

/** Return what an announcement says, by the members that are needed and no other: more may come. */
function read(kind, data) {
  switch (kind) {
    case "AiTEMS Service Created":
      return { outcome: "created", service_id: data.serviceId };
    case "AiTEMS Service Creation Rejected":
      // Final: mend what `detail` says and ask again, under a new key.
      return { outcome: "rejected", kind: data.type, reason: data.detail };
    case "AiTEMS Service Creation Failed":
      // Not final: the request is kept, and Created or Rejected may follow, or have come before. Ask again under the
      // same key only: with `may_exist` there may be a service already.
      return { outcome: "failed", kind: data.type, reason: data.detail };
    default:
      return null; // a kind of announcement that is newer than this function
  }
}

async function writeOnce(item) {
  const { DynamoDBClient, PutItemCommand } = await import("@aws-sdk/client-dynamodb");
  const entry = {
    TableName: process.env.OUTCOMES_TABLE,
    Item: Object.fromEntries(Object.entries(item).map(([name, value]) => [name, { S: value }])),
    ConditionExpression: "attribute_not_exists(event_id)",
  };
  try {
    await new DynamoDBClient({}).send(new PutItemCommand(entry));
    return true;
  } catch (error) {
    if (error.name === "ConditionalCheckFailedException") return false;
    throw error;
  }
}
