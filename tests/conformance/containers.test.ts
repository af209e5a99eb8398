import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import * as z from "zod";
import { exec } from "#clusters/local/toolchain/exec.ts";
import { ensureToolchain, toolPath } from "#clusters/local/toolchain/index.ts";

// What sets a container apart from the machine. Each runs in a PID namespace made for it, so that one which breaks out
// harms nobody; the canary is what it would meet there.

const root = join(import.meta.dirname, "..", "..");
let helper = "";
beforeAll(async () => {
  helper = toolPath(await ensureToolchain({ progress: () => {} }), "baton-container");
});

const outcome = z.object({
  end: z.object({ kind: z.string(), code: z.int(), signal: z.int().optional() }),
  output: z.string(),
  canary: z.string(),
});

async function contained(mode: string, script: string) {
  const apart = ["--pid", "--fork", "--mount-proc", "--kill-child"];
  const user = process.getuid?.() === 0 ? [] : ["--user", "--map-root-user"];
  const driver = [process.execPath, join(root, "tests/support/contained.ts"), helper, mode, script];
  const { tail } = await exec("unshare", [...user, ...apart, "--", ...driver], { cwd: root });
  return tail.map((line) => outcome.safeParse(parsed(line)).data).find((data) => data !== undefined);
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

// As root no user namespace is needed; who is not root has nothing else.
const MODES = process.getuid?.() === 0 ? ["namespaces", "user-namespaces"] : ["user-namespaces"];

describe.each(MODES)("a container with %s", (mode) => {
  it("ends nothing but itself with kill -TERM -1 and kill -KILL -1", async () => {
    const script = "sleep 1000 & kill -TERM -1; wait $!; echo ended $?; kill -KILL -1; echo over";
    expect(await contained(mode, script)).toEqual({
      end: { kind: "ended", code: 0 },
      output: expect.stringMatching(/ended 143[\s\S]*over/),
      canary: "alive",
    });
  });

  it("sees no process from outside, and so no environment", async () => {
    // Its number says nothing: another process may have it inside.
    const script = `cat /proc/[0-9]*/comm | grep -c '^sleep$'; cat /proc/*/environ | tr '\\0' '\\n' | grep -c CANARY=; ls /proc | grep -c '^[0-9]'`;
    const seen = await contained(mode, script);
    // Process 1, the shell and the two of its last pipe.
    expect(seen?.output.split("\n").filter((line) => /^\d+$/.test(line))).toEqual(["0", "0", "4"]);
  });

  it("reports how its program ended, whatever it leaves behind", async () => {
    const left = "setsid sh -c 'trap \"\" TERM HUP; sleep 1000' &";
    expect((await contained(mode, `${left} exit 7`))?.end).toEqual({ kind: "ended", code: 7 });
    expect((await contained(mode, `${left} kill -KILL $$`))?.end).toEqual({
      kind: "ended",
      code: 137,
      signal: 9,
    });
    // Nothing that the agent ignores is ignored inside.
    expect((await contained(mode, "kill -INT $$"))?.end.code).toBe(130);
  });
});

describe("a container without namespaces", () => {
  it("ends what it meets: the canary of these tests can die", async () => {
    expect((await contained("none", "kill -TERM -1"))?.canary).toBe("SIGTERM");
  });
});
