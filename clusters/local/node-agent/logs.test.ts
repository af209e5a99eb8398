import { appendFile, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { logQuerySchema, writeLog } from "./logs.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "baton-logs-"));
});
afterAll(() => rm(folder, { recursive: true }));

const at = (second: number, rest: string) => `2026-01-01T00:00:0${second}.000000000Z ${rest}\n`;
const TEXT = [
  at(1, "stdout F one"),
  at(2, "stderr F two"),
  "cut by a full disk\n",
  at(3, "stdout P long "),
  at(4, "stdout F line"),
  at(5, "stdout F"),
].join("");

async function read(
  query: object,
  path: string,
  running = () => false,
  signal = new AbortController().signal,
) {
  let text = "";
  const write = async (bytes: Buffer) => {
    text += bytes.toString("utf8");
  };
  await writeLog({ path, running }, logQuerySchema.parse(query), write, signal);
  return text;
}

describe("a log", () => {
  it.each([
    ["all of it, with lines in parts made whole", {}, "one\ntwo\nlong line\n\n"],
    ["one stream", { stream: "Stderr" }, "two\n"],
    ["the last entries", { tailLines: "2" }, "line\n\n"],
    ["none", { tailLines: "0" }, ""],
    ["since a time", { sinceTime: "2026-01-01T00:00:04Z" }, "line\n\n"],
    ["since a time elsewhere", { sinceTime: "2026-01-01T01:00:05+01:00" }, "\n"],
    ["so many bytes", { limitBytes: "6" }, "one\ntw"],
    [
      "with times, once for each line",
      { timestamps: "true", tailLines: "3" },
      "2026-01-01T00:00:03.000000000Z long line\n2026-01-01T00:00:05.000000000Z \n",
    ],
  ])("is read: %s", async (_what, query, expected) => {
    const path = join(folder, "whole.log");
    await writeFile(path, TEXT);
    expect(await read(query, path)).toBe(expected);
  });

  it.each([
    ["tailLines", { tailLines: "x" }],
    ["tailLines", { tailLines: "-1" }],
    ["sinceTime", { sinceTime: "yesterday" }],
    ["limitBytes", { limitBytes: "0" }],
    ["follow", { follow: "maybe" }],
  ])("is not asked for with a wrong %s", (field, query) => {
    expect(logQuerySchema.safeParse(query).error?.issues[0]?.path).toEqual([field]);
  });

  it("begins with what was put aside, and is followed over the moment when it is put aside", async () => {
    const path = join(folder, "rotated.log");
    await writeFile(`${path}.1`, at(1, "stdout F zero"));
    await writeFile(path, at(2, "stdout F one"));
    let looks = 0;
    // Asked before each reading: the last line comes after the container has ended.
    const running = () => {
      looks += 1;
      if (looks === 1) void appendFile(path, at(3, "stdout F two")).then(() => rename(path, `${path}.1`));
      if (looks === 4) void writeFile(path, at(4, "stdout F three"));
      return looks < 7;
    };
    expect(await read({ follow: "true" }, path, running)).toBe("zero\none\ntwo\nthree\n");
  });

  it("is no longer followed when nobody listens", async () => {
    const path = join(folder, "left.log");
    await writeFile(path, at(1, "stdout F one"));
    const gone = new AbortController();
    setTimeout(() => gone.abort(), 20);
    expect(await read({ follow: "true" }, path, () => true, gone.signal)).toBe("one\n");
  });
});
