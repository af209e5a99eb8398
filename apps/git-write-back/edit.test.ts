import { describe, expect, it } from "vitest";
import { replaceModel, writtenModel } from "./edit.ts";

const GOOD = `sha256:${"a".repeat(64)}`;
const BAD = `sha256:${"b".repeat(64)}`;

const values = (digest: string, version: string) => `# What differs.
signalModel:
  deployment: momentum   # its name
  model:
    name: momentum
    version: ${version} # the model's
    uri: "s3://models/momentum/${version}/model.json"
    digest: ${digest}
other:
  deployment: reversal
  model: { name: reversal, version: 9.0.0, uri: s3://x, digest: ${digest} }
`;
const manifest = (name: string, digest: string, version: string) => `apiVersion: baton.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: ${name}
spec:
  model:
    name: m
    version: ${version}
    uri: s3://models/${version}
    digest: ${digest}
`;

describe("a model", () => {
  it("is replaced as it was written before, and nothing around it", () => {
    const before = writtenModel(values(GOOD, "1.0.0"), "momentum", GOOD);
    expect(Object.fromEntries(before ?? [])).toEqual({
      name: "momentum",
      version: "1.0.0",
      uri: '"s3://models/momentum/1.0.0/model.json"',
      digest: GOOD,
    });
    const expected = values(GOOD, "1.0.0").replace(
      `version: 9.0.0, uri: s3://x, digest: ${GOOD}`,
      `version: 9.0.0, uri: s3://x, digest: ${BAD}`,
    );
    expect(replaceModel(values(BAD, "2.0.0"), "momentum", BAD, before ?? new Map())).toBe(expected);
  });

  it("is found in its own manifest only, though others have the same", () => {
    const file = [manifest("other", BAD, "2.0.0"), manifest("momentum", BAD, "2.0.0")].join("---\n");
    const before = writtenModel(manifest("momentum", GOOD, "1.0.0"), "momentum", GOOD) ?? new Map();
    const wanted = [manifest("other", BAD, "2.0.0"), manifest("momentum", GOOD, "1.0.0")].join("---\n");
    expect(replaceModel(file, "momentum", BAD, before)).toBe(wanted);
    expect(writtenModel(file, "nobody", BAD)).toBeUndefined();
  });

  it("is not found in what is no YAML, or is something else", () => {
    for (const text of [
      "",
      "a: [",
      `digest: ${BAD}`,
      `kind: ConfigMap\ndata: { digest: "${BAD}" }`,
      "- momentum",
    ]) {
      expect(writtenModel(text, "momentum", BAD)).toBeUndefined();
      expect(replaceModel(text, "momentum", BAD, new Map([["digest", GOOD]]))).toBeUndefined();
    }
  });
});
