import fc from "fast-check";
import { expect, it } from "vitest";
import { cut } from "./text.ts";

it("leaves text that fits, and cuts what does not with a mark", () => {
  expect(cut("fits", 4)).toBe("fits");
  expect(cut("does not", 5)).toBe("does…");
});

it("cuts no character in two, and lets no half of one through, wherever it is cut", () => {
  expect(cut("ab😀cd", 4)).toBe("ab…");
  expect(cut("ab😀cd", 5)).toBe("ab😀…");
  expect(cut("\ud83d", 9)).toBe("\ufffd");
  const unit = fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("😀", "\ud83d", "\ude00", "…"));
  fc.assert(
    fc.property(fc.array(unit, { maxLength: 20 }), fc.integer({ min: 1, max: 30 }), (parts, max) => {
      const text = parts.join("");
      const after = cut(text, max);
      expect(after.length).toBeLessThanOrEqual(max);
      expect(after.isWellFormed()).toBe(true);
      if (text.length <= max && text.isWellFormed()) expect(after).toBe(text);
      else if (text.length > max) expect(after.endsWith("…")).toBe(true);
    }),
  );
});
