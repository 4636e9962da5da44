// A caller: asks for a service by a webhook that is signed with Standard Webhooks. `node call.mjs NAME KEY`.
//
// Nothing but Node.js 20. Wants the environment variables WEBHOOK_URL (the stack's output of that name, followed by
// `/hooks/` and the caller's name) and WEBHOOK_SECRET (`whsec_…`).

import { createHmac } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

const TRIES = 4;

/**
 * Return the status and the answer: the service (201), how the request stands (202), or the problem.
 *
 * Where it is not known whether it arrived, it is sent again: under the same key, which makes it the same request, and
 * signed anew, since a signature is good for 5 minutes. A key is for one request, for ever: never make another one for
 * another try.
 */
export async function ask(name, key) {
  const body = JSON.stringify({ name });
  for (let waited = 0; waited < TRIES; waited++) {
    let pause = 2 ** waited;
    try {
      const answer = await call("POST", process.env.WEBHOOK_URL, key, body);
      if (answer.status < 500 && answer.status !== 429) return { status: answer.status, answer: await answer.json() };
      pause = Number(answer.headers.get("Retry-After") ?? pause);
    } catch (error) {
      if (!["TypeError", "TimeoutError"].includes(error.name)) throw error; // fetch's own: nobody answered, or not in time
    }
    await sleep(pause * 1000);
  }
  throw new Error(`no answer after ${TRIES} tries: go on trying, under the same key`);
}

/** Return how a request stands. It is signed with the request's id as the key, over an empty body. */
export async function look(requestId) {
  const answer = await call("GET", `${process.env.WEBHOOK_URL}/requests/${requestId}`, requestId, "");
  return { status: answer.status, answer: await answer.json() };
}

function call(method, url, key, body) {
  const now = Math.floor(Date.now() / 1000);
  const secret = Buffer.from(process.env.WEBHOOK_SECRET.replace(/^whsec_/, ""), "base64");
  const signature = createHmac("sha256", secret).update(`${key}.${now}.${body}`).digest("base64");
  const headers = {
    "Content-Type": "application/json",
    "webhook-id": key,
    "webhook-timestamp": String(now),
    "webhook-signature": `v1,${signature}`,
  };
  return fetch(url, { method, headers, body: body || undefined, signal: AbortSignal.timeout(35_000) });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const [name, key] = process.argv.slice(2);
  if (!key) {
    console.error("node call.mjs NAME KEY, with WEBHOOK_URL and WEBHOOK_SECRET in the environment");
    process.exit(1);
  }
  console.log(JSON.stringify(await ask(name, key)));
}
