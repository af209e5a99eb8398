import { describe, expect, it } from "vitest";
import { difference, renderDifference } from "./diff.ts";

const object = (name: string, data: string) =>
  `apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${name}\n  namespace: x\ndata:\n  a: "1"\n  b: "${data}"\n`;

describe("a difference", () => {
  it("is told object by object, whatever file or place they are in", () => {
    const before = [[object("kept", "1"), object("changed", "1")].join("---\n"), object("removed", "1")];
    const after = [object("added", "1"), object("changed", "2"), object("kept", "1")];
    const changes = difference(before, after);
    expect(changes.map((change) => [change.kind, change.object])).toEqual([
      ["added", "ConfigMap x added"],
      ["changed", "ConfigMap x changed"],
      ["removed", "ConfigMap x removed"],
    ]);
    const text = renderDifference(changes, "dev");
    expect(text).toContain('    -  b: "1"');
    expect(text).toContain('    +  b: "2"');
    expect(text.split("\n").at(-1)).toBe("dev: 1 added, 1 changed, 1 removed");
  });

  it("is none where only the order of objects or empty documents differ", () => {
    const [a, b] = [object("a", "1"), object("b", "1")];
    expect(difference([`${a}---\n${b}`], [b, `${a}---\n`])).toEqual([]);
    expect(renderDifference([], "dev")).toBe("dev: no difference");
  });
});
