import { describe, expect, it } from "vitest";
import { specOf, World } from "#tests/support/deployment-world.ts";
import { parseCommand } from "./command.ts";

const good = { id: "c1", verb: "abort", revision: "r-1" };
const parse = (change: object) => parseCommand(JSON.stringify({ ...good, ...change }));

describe("a command", () => {
  it("is taken as it is", () => {
    expect(parseCommand(undefined)).toBeUndefined();
    expect(parse({})).toEqual(good);
    expect(parse({ verb: "undo", to: "r-0", notify: true })).toEqual({
      ...good,
      verb: "undo",
      to: "r-0",
      notify: true,
    });
  });

  it("is never refused for its reason, which is cut", () => {
    expect(parse({ reason: "r".repeat(2_000) })).toMatchObject({ reason: `${"r".repeat(255)}…` });
    expect(parse({ reason: `${"r".repeat(254)}😀😀` })).toMatchObject({ reason: `${"r".repeat(254)}…` });
    expect(parse({ reason: "a\u0000b\nc\ud83d" })).toMatchObject({ reason: "a b c\ufffd" });
  });

  it("counts a person once, however the name was typed", () => {
    const by = (name: string) => parse({ verb: "approve", gate: "g", by: name });
    expect(by(" Zo\u0065\u0308 ")).toMatchObject({ by: "Zoë" });
    expect(by(`${"a".repeat(241)}@example.com`)).toMatchObject({ verb: "approve" });
  });

  it.each<readonly [string, object, string]>([
    ["a long id", { id: "x".repeat(64) }, "id: "],
    ["no id", { id: "" }, "id: "],
    ["an id that nobody can read", { id: "a\u0000" }, "id: "],
    ["a long revision", { revision: "r".repeat(64) }, "revision: "],
    ["an unknown verb", { verb: "explode" }, "verb: "],
    ["a verb that is none", { verb: 7 }, "verb: "],
    ["a long gate", { verb: "approve", gate: "g".repeat(64), by: "ann" }, "gate: "],
    ["a person without a name", { verb: "approve", gate: "g", by: "  " }, "by: "],
    ["a name that is too long", { verb: "approve", gate: "g", by: "b".repeat(255) }, "by: "],
    ["half a character in a name", { verb: "approve", gate: "g", by: "ann\ud83d" }, "by: "],
    ["a line break in a name", { verb: "approve", gate: "g", by: "ann\nbob" }, "by: "],
    ["a long way back", { verb: "undo", to: "r".repeat(64) }, "to: "],
  ])("that cannot be read is answered with its field, once, and changes nothing: %s", (_, change, field) => {
    const command = parse(change);
    expect(command).toMatchObject({ problem: expect.stringContaining(field) });
    expect(parse(change)).toEqual(command);
    const world = new World(specOf("1.0.0")).begin();
    world.update(specOf("2.0.0"));
    world.settle();
    const { candidate, currentStepIndex } = world.status;
    world.command = command;
    world.settle();
    expect(world.status).toMatchObject({ candidate, currentStepIndex });
    expect(world.status.lastVerb).toMatchObject({ result: expect.stringContaining(`refused: ${field}`) });
    const { lastVerb } = world.status;
    world.now += 60_000;
    world.settle();
    expect(world.status.lastVerb).toEqual(lastVerb);
  });

  it.each([
    ["no JSON", "{"],
    ["nothing", ""],
    ["a list", "[]"],
    ["null", "null"],
    ["more than any command", JSON.stringify({ ...good, more: "x".repeat(200_000) })],
  ])("is answered by an id of its own where it has none: %s", (_, text) => {
    const command = parseCommand(text);
    expect(command).toMatchObject({
      id: expect.stringMatching(/^unreadable-[0-9a-f]{16}$/),
      verb: "unknown",
    });
    expect(parseCommand(`${text} `)).not.toMatchObject({ id: (command as { id: string }).id });
  });
});
