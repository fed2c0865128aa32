// Sends one event. Needs Node.js 18 or newer and no package; INGEST_URL, AWS_REGION and AWS_ACCESS_KEY_ID,
// AWS_SECRET_ACCESS_KEY and, with a role, AWS_SESSION_TOKEN are in the environment.
//
//     node ingest.mjs event.json
import { createHash, createHmac } from "node:crypto";
import { readFileSync } from "node:fs";

const { INGEST_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN } = process.env;
const body = readFileSync(process.argv[2]);
const url = new URL(INGEST_URL);

const sha256 = (data) => createHash("sha256").update(data).digest("hex");
const hmac = (key, data) => createHmac("sha256", key).update(data).digest();
const encode = (text) => encodeURIComponent(text).replace(/[!'()*]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase());

// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
function sign(method, url, body, headers) {
  const time = new Date().toISOString().replace(/[:-]|\.\d{3}/g, "");
  const scope = `${time.slice(0, 8)}/${AWS_REGION}/execute-api/aws4_request`;
  const all = { ...headers, host: url.host, "x-amz-date": time };
  if (AWS_SESSION_TOKEN) all["x-amz-security-token"] = AWS_SESSION_TOKEN;
  const names = Object.keys(all).sort();
  const query = [...url.searchParams].map(([name, value]) => `${encode(name)}=${encode(value)}`).sort().join("&");
  const canonical = [
    method,
    url.pathname.split("/").map(encode).join("/"),
    query,
    ...names.map((name) => `${name}:${all[name].trim()}`),
    "",
    names.join(";"),
    sha256(body),
  ].join("\n");
  const key = [time.slice(0, 8), AWS_REGION, "execute-api", "aws4_request"].reduce(hmac, "AWS4" + AWS_SECRET_ACCESS_KEY);
  const signature = hmac(key, ["AWS4-HMAC-SHA256", time, scope, sha256(canonical)].join("\n")).toString("hex");
  const credential = `Credential=${AWS_ACCESS_KEY_ID}/${scope}`;
  all.authorization = `AWS4-HMAC-SHA256 ${credential}, SignedHeaders=${names.join(";")}, Signature=${signature}`;
  delete all.host; // fetch sets it
  return all;
}

const headers = sign("POST", url, body, { "content-type": "application/json" });
const answer = await fetch(url, { method: "POST", headers, body, signal: AbortSignal.timeout(60_000) });
console.log(await answer.text());
process.exitCode = answer.ok ? 0 : 1; // 429 and 5xx: sign it anew, and send it again
