import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { leaveTerminationMessage } from "./termination.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "baton-termination-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

it("says why the container has ended where Kubernetes has made the file, and makes none", () => {
  const path = join(folder, "termination-log");
  leaveTerminationMessage("lost", path);
  expect(existsSync(path)).toBe(false);
  writeFileSync(path, "something longer that was there before");
  leaveTerminationMessage("the model is another one", path);
  expect(readFileSync(path, "utf8")).toBe("the model is another one");
});
