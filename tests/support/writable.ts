import assert from "node:assert/strict";
import {
  MAX_STATUS_BYTES,
  type ModelDeploymentStatus,
  modelDeploymentStatus,
} from "#operators/model-deployment/api/status.ts";

const schema = modelDeploymentStatus.strict();

/** Fails where the API server would not take a status: by its schema, by the keys of its lists, or by its size. */
export function assertWritable(status: ModelDeploymentStatus): void {
  const { success, error } = schema.safeParse(status);
  assert(success, `the status cannot be written: ${JSON.stringify(error?.issues[0])}`);
  const text = JSON.stringify(status);
  assert(Buffer.byteLength(text) <= MAX_STATUS_BYTES, `a status of ${Buffer.byteLength(text)} bytes`);
  // It comes back as it was sent: half a character would not.
  assert(!/\\ud[89a-f]/i.test(text), "half a character");
  for (const keys of [status.conditions?.map(({ type }) => type), status.analysis?.map(({ name }) => name)])
    assert.equal(new Set(keys).size, keys?.length ?? 0, "a key is there twice");
}
