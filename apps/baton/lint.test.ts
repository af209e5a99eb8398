import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { goodSpec, goodTemplate } from "#tests/support/model-deployments.ts";
import { lintCommand } from "./lint.ts";

let folder: string;
let printed: string[];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "lint-"));
  printed = [];
  vi.spyOn(console, "log").mockImplementation((line: string) => printed.push(line));
});
afterEach(async () => {
  vi.restoreAllMocks();
  process.exitCode = 0;
  await rm(folder, { recursive: true });
});

async function lint(files: Readonly<Record<string, string>>): Promise<readonly Record<string, string>[]> {
  const paths = Object.keys(files).map((name) => join(folder, name));
  await Promise.all(Object.values(files).map((text, i) => writeFile(paths[i] ?? "", text)));
  await lintCommand().parseAsync(["--json", ...paths], { from: "user" });
  return JSON.parse(printed[0] ?? "") as Record<string, string>[];
}
const object = (kind: string, name: string, spec: object) =>
  JSON.stringify({ apiVersion: "baton.dev/v1alpha1", kind, metadata: { name }, spec });

it("looks at how objects of several files use each other", async () => {
  const template = { ...goodTemplate(), args: [{ name: "least" }] };
  const problems = await lint({
    "models.yaml": object("ModelDeployment", "echo", goodSpec()),
    "templates.yaml": object("AnalysisTemplate", "error-rate", template),
  });
  expect(problems).toMatchObject([
    {
      file: join(folder, "models.yaml"),
      object: "echo",
      field: "spec.analysis.templates[0].args[0].name",
      message: "error-rate has no argument max",
    },
  ]);
  expect(process.exitCode).toBe(1);
});

it("says of each file what is wrong with it, and looks at the rest", async () => {
  const problems = await lint({
    "alias.yaml": "a: *nobody",
    "bomb.yaml": `a: &a [x,x,x,x,x,x,x,x,x,x]\n${[..."bcdefghij"].map((name, i) => `${name}: &${name} [${Array(10).fill(`*${"abcdefghij"[i]}`)}]`).join("\n")}`,
    "syntax.yaml": "a: [",
    "text.yaml": "just a text",
    "list.yaml": "[1, 2]",
    "nameless.yaml": "apiVersion: baton.dev/v1alpha1\nkind: AnalysisTemplate\nmetadata:\n",
    "interval.yaml": object("AnalysisTemplate", "interval", {
      metrics: [{ ...(goodTemplate()["metrics"] as object[])[0], interval: "12h1d" }],
    }),
  });
  const of = (name: string) => problems.filter(({ file }) => file === join(folder, name));
  for (const name of ["alias", "bomb", "syntax", "text", "list", "nameless"])
    expect(of(`${name}.yaml`), name).toHaveLength(1);
  expect(of("interval.yaml")).toMatchObject([{ object: "interval", field: "spec.metrics[0].interval" }]);
});

it("names the file that it cannot read", async () => {
  await expect(lintCommand().parseAsync([folder], { from: "user" })).rejects.toThrow(folder);
});
