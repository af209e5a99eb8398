import { spawnSync } from "node:child_process";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Repository as Person } from "#tests/support/repository.ts";
import type { Rollback } from "./plan.ts";
import { GitError, Repository, type RepositoryOptions } from "./repository.ts";

// With the real git, and a bare repository in the place of a server.

const GOOD = `sha256:${"a".repeat(64)}`;
const BAD = `sha256:${"b".repeat(64)}`;
const FILE = "clusters/prod/cluster.yaml";
const MANIFEST = "clusters/prod/manifests/models/momentum.yaml";
const rollback: Rollback = {
  namespace: "baton",
  name: "momentum",
  bad: { revision: "r3", version: "2.0.0", digest: BAD },
  good: { revision: "r2", version: "1.0.0", digest: GOOD },
  reason: "AnalysisFailed",
  evidence: "error-rate is 0.2",
  startedAt: "2026-01-01T00:00:00Z",
  endedAt: "2026-01-01T00:01:00Z",
};
const files = (digest: string, version: string) =>
  new Map([
    [
      FILE,
      `# prod\nsignalModel:\n  deployment: momentum\n  model:\n    version: ${version}\n    digest: ${digest}\n`,
    ],
    [
      MANIFEST,
      `kind: ModelDeployment\nmetadata: { name: momentum }\nspec:\n  model:\n    version: ${version}\n    digest: ${digest}\n`,
    ],
    [
      "clusters/dev/cluster.yaml",
      `signalModel:\n  deployment: momentum\n  model: { version: x, digest: ${BAD} }\n`,
    ],
  ]);

let person: Person;
let folder: string;
const open: Repository[] = [];

beforeEach(async () => {
  person = await Person.create();
  folder = await mkdtemp(join(tmpdir(), "baton-test-"));
  await person.write(files(GOOD, "1.0.0"));
  person.push("Release 1.0.0");
  await person.write(files(BAD, "2.0.0"));
  person.push("Release 2.0.0");
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((repository) => repository.close()));
  await person.close();
  await rm(folder, { recursive: true, force: true });
});

async function clone(options: Partial<RepositoryOptions> = {}): Promise<Repository> {
  const repository = await Repository.clone({
    ...{ url: person.url, branch: "main", path: "clusters/prod", mode: "push" },
    ...options,
  });
  open.push(repository);
  return repository;
}

const pulled = () => {
  person.git("fetch", "--quiet", "origin");
  return (path: string, branch = "main") => `${person.git("show", `origin/${branch}:${path}`)}\n`;
};
const trailers = (branch = "main") =>
  person.git("log", "-1", "--format=%(trailers:only,unfold)", `origin/${branch}`).split("\n");

describe("a rollback in Git", () => {
  it("names the model that decides, in the environment's files, with the evidence as trailers", async () => {
    const result = await (await clone()).writeBack(rollback, ["md/0@5"]);
    expect(result).toMatchObject({ kind: "written", branch: "main" });
    const show = pulled();
    for (const path of [FILE, MANIFEST]) expect(show(path)).toBe(files(GOOD, "1.0.0").get(path));
    expect(show("clusters/dev/cluster.yaml")).toContain(BAD);
    expect(trailers()).toEqual(
      expect.arrayContaining([
        "Baton-Revision: r3",
        "Baton-Evidence: error-rate is 0.2",
        "Baton-Offsets: md/0@5",
      ]),
    );
    expect(person.git("rev-list", "--count", "origin/main")).toBe("3");
  });

  it("is written once, by however many", async () => {
    const both = [await clone(), await clone()];
    const results = await Promise.all(both.map((repository) => repository.writeBack(rollback, [])));
    // Made in the same second both are the same commit.
    const commits = new Set(results.flatMap((result) => (result.kind === "written" ? [result.commit] : [])));
    expect(commits.size).toBe(1);
    expect(await (await clone()).writeBack(rollback, [])).toEqual({ kind: "there" });
    pulled();
    expect(person.git("rev-list", "--count", "origin/main")).toBe("3");
  });

  it("builds upon what others push in the meantime, and takes nothing of it away", async () => {
    const repository = await clone();
    await person.write(new Map([["README.md", "changed\n"]]));
    const other = person.push("Change something else");
    await repository.writeBack(rollback, []);
    pulled();
    expect(person.git("rev-parse", "origin/main^")).toBe(other);
  });

  it("is left alone where a person was quicker", async () => {
    await person.write(files(GOOD, "1.0.0"));
    person.push("Take it back");
    expect(await (await clone()).writeBack(rollback, [])).toEqual({ kind: "there" });
  });

  it("waits on a branch of its own for a person, once", async () => {
    const repository = await clone({ mode: "branch" });
    const branch = "baton/rollback-momentum-r3";
    expect(await repository.writeBack(rollback, [])).toMatchObject({ kind: "written", branch });
    expect(await repository.writeBack(rollback, [])).toEqual({ kind: "there" });
    const show = pulled();
    expect(show(FILE, branch)).toBe(files(GOOD, "1.0.0").get(FILE));
    expect(show(FILE)).toBe(files(BAD, "2.0.0").get(FILE));
  });

  it("goes to a branch of its own where the branch takes no pushes", async () => {
    const hook = join(new URL(person.url).pathname, "hooks/update");
    await writeFile(hook, '#!/bin/sh\n[ "$1" != refs/heads/main ] || { echo protected >&2; exit 1; }\n');
    await chmod(hook, 0o755);
    expect(await (await clone()).writeBack(rollback, [])).toMatchObject({
      kind: "written",
      branch: "baton/rollback-momentum-r3",
    });
  });

  it("is not made up where Git never had the model", async () => {
    const unknown = { ...rollback, good: { ...rollback.good, digest: `sha256:${"c".repeat(64)}` } };
    expect(await (await clone()).writeBack(unknown, [])).toEqual({ kind: "unknown" });
    pulled();
    expect(person.git("rev-list", "--count", "origin/main")).toBe("2");
  });

  it("is signed when there is a key", async () => {
    const key = join(folder, "key");
    spawnSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "baton@localhost", "-f", key]);
    await (await clone({ signingKeyFile: key })).writeBack(rollback, []);
    pulled();
    const allowed = join(folder, "allowed");
    const { stdout } = spawnSync("cat", [`${key}.pub`], { encoding: "utf8" });
    await writeFile(allowed, `baton@localhost ${stdout}`);
    person.git("config", "gpg.ssh.allowedSignersFile", allowed);
    expect(person.git("log", "-1", "--format=%G?", "origin/main")).toBe("G");
  });

  it("fails without a trace, and without a secret, where the server is not there", async () => {
    const url = Object.assign(new URL("https://127.0.0.1:1/x.git"), {
      username: "user",
      password: "hunter2",
    }).href;
    const error = await Repository.clone({ url, branch: "main", path: "x", mode: "push" }).catch(
      (e: unknown) => e,
    );
    expect(error).toBeInstanceOf(GitError);
    expect(String(error)).not.toContain("hunter2");
  });
});
