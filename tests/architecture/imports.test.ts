import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const root = join(import.meta.dirname, "..", "..");
const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "*.ts"], {
  cwd: root,
  encoding: "utf8",
})
  .split("\n")
  .filter((file) => file !== "" && !file.endsWith(".d.ts"));

interface Import {
  readonly file: string;
  readonly target: string;
}

const PATTERN = /(?:from|import)\s*\(?\s*"([^"]+)"/g;

/** Every import as a path in the repository, or as the name of a package. */
const imports: readonly Import[] = files.flatMap((file) => {
  const text = readFileSync(join(root, file), "utf8");
  return [...text.matchAll(PATTERN)].map(([, specifier = ""]) => {
    if (specifier.startsWith("#")) return { file, target: specifier.slice(1) };
    if (specifier.startsWith(".")) return { file, target: join(file, "..", specifier) };
    return { file, target: `package:${specifier}` };
  });
});

/** Which top-level folders (or folders below) may be imported from where; itself always. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  runtime: ["runtime"],
  // The command line speaks to the API server in the operator's terms.
  apps: ["runtime", "operators/model-deployment/api", "operators/controller-kit", "package.json"],
  operators: ["runtime"],
  // The simulated market's instruments are rendered as an InstrumentSet.
  charts: ["runtime/contracts", "runtime/market", "operators"],
  // The local cluster runs what the others make and knows none of their code, beside how to wait for long.
  clusters: ["runtime/time"],
};

const isTest = (file: string) =>
  file.endsWith(".test.ts") || /^(tests\/|\.ci\/|vitest\.config\.ts$)/.test(file);
const within = (path: string, folder: string) => path === folder || path.startsWith(`${folder}/`);
const top = (path: string) => path.split("/")[0] ?? "";

describe("imports", () => {
  it("are found at all", () => {
    expect(imports.length).toBeGreaterThan(100);
  });

  it("point down: apps → runtime, charts → operators, nothing into tests", () => {
    const wrong = imports.filter(({ file, target }) => {
      if (isTest(file) || target.startsWith("package:")) return false;
      const from = top(file);
      if (top(target) === from) return false;
      return !(ALLOWED[from] ?? []).some((folder) => within(target, folder));
    });
    expect(wrong).toEqual([]);
  });

  it("never go from one app to another", () => {
    const app = (path: string) => /^apps\/([^/]+)\//.exec(path)?.[1];
    const wrong = imports.filter(
      ({ file, target }) => app(file) !== undefined && app(target) !== undefined && app(file) !== app(target),
    );
    expect(wrong).toEqual([]);
  });

  it.each([
    ["kafkajs", "runtime/bus/kafka"],
    ["kafkajs-snappy", "runtime/bus/kafka"],
    ["lz4-napi", "runtime/bus/kafka"],
    ["ioredis", "runtime/redis"],
    ["onnxruntime-node", "runtime/model"],
    ["aws4fetch", "runtime/model"],
    ["cdk8s", "charts"],
    ["cdk8s-plus-28", "charts"],
    ["hyparquet", "apps/market-data"],
    ["hyparquet-compressors", "apps/market-data"],
  ])("keep the client library %s in %s", (library, folder) => {
    const users = imports.filter(({ file, target }) => target === `package:${library}` && !isTest(file));
    expect(users.length).toBeGreaterThan(0);
    expect(users.filter(({ file }) => !within(file, folder))).toEqual([]);
  });

  it("keep the controller kit from knowing any kind of ours", () => {
    const wrong = imports.filter(
      ({ file, target }) =>
        within(file, "operators/controller-kit") &&
        !isTest(file) &&
        within(target, "operators/model-deployment"),
    );
    expect(wrong).toEqual([]);
  });

  it("keep pure modules free of clients, clocks and files", () => {
    const pure = [
      "clusters/local/node-agent/rules.ts",
      "clusters/local/node-agent/env.ts",
      "clusters/local/node-agent/security.ts",
      "clusters/local/node-agent/scrape.ts",
      "apps/signal-model/decide.ts",
      "apps/market-data/source.ts",
      "apps/market-data/symbols.ts",
      "apps/market-data/time-unit.ts",
      "runtime/handover/rules.ts",
      "runtime/handover/conduct.ts",
      "runtime/handover/halt-order.ts",
      "operators/controller-kit/backoff.ts",
      "operators/controller-kit/conditions.ts",
      "operators/controller-kit/errors.ts",
      "operators/model-deployment/core/analysis.ts",
      "operators/model-deployment/core/conclude.ts",
      "operators/model-deployment/core/phase.ts",
      "operators/model-deployment/core/plan.ts",
      "operators/model-deployment/core/release.ts",
      "operators/model-deployment/core/holds.ts",
      "operators/model-deployment/core/watch.ts",
      "operators/model-deployment/core/under-way.ts",
      "operators/model-deployment/core/revision.ts",
      "operators/model-deployment/core/steps.ts",
      "operators/model-deployment/core/verbs.ts",
      "runtime/bus/partitioner.ts",
      "runtime/bus/progress.ts",
      "runtime/contracts/admission.ts",
      "runtime/contracts/compatibility.ts",
      "runtime/market/ticks.ts",
      "runtime/market/simulator.ts",
    ];
    for (const file of pure) {
      const text = readFileSync(join(root, file), "utf8");
      expect([
        file,
        /Date\.now\(|performance\.now\(|await import|node:fs|node:net|Math\.random/.test(text),
      ]).toEqual([file, false]);
    }
  });
});

describe("files", () => {
  it("fit a few screens", () => {
    const long = files.filter(
      (file) => !file.endsWith(".test.ts") && readFileSync(join(root, file), "utf8").split("\n").length > 450,
    );
    expect(long).toEqual([]);
  });

  it("name no absolute path of a machine", () => {
    const wrong = files.filter((file) =>
      /["'`](?:\/root\/|\/home\/|\/work\/)/.test(readFileSync(join(root, file), "utf8")),
    );
    expect(wrong.filter((file) => !file.startsWith("tests/architecture"))).toEqual([]);
  });
});
