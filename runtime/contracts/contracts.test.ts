import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CONTRACTS } from "./all.ts";
import { incompatibilities } from "./compatibility.ts";
import { DecodeError, decode, encode, jsonSchema, MAX_DEPTH } from "./contract.ts";
import { MarketData, Signal } from "./messages.ts";
import { topics } from "./topics.ts";

const trade: MarketData = {
  type: "trade",
  instrument: "BTCUSDT",
  assetClass: "crypto",
  eventTime: 1_700_000_000_000,
  sequence: 7,
  price: 64_000.5,
  size: 0.25,
  side: "buy",
};

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return error instanceof DecodeError ? error.code : String(error);
  }
  return "none";
}

describe("decode", () => {
  const read = (text: string | null, schemaId?: string) =>
    codeOf(() => decode(MarketData, text === null ? null : Buffer.from(text), schemaId));

  it("gives back what encode was given", () => {
    expect(decode(MarketData, encode(MarketData, trade), "market-data/1")).toEqual(trade);
  });

  it.each([
    ["a null value", null, undefined, "NULL_VALUE"],
    ["text", "hello", undefined, "NOT_JSON"],
    ["half a message", JSON.stringify(trade).slice(0, 50), undefined, "NOT_JSON"],
    ["NaN", JSON.stringify(trade).replace("0.25", "NaN"), undefined, "NOT_JSON"],
    ["null for a number", JSON.stringify({ ...trade, price: null }), undefined, "INVALID"],
    ["a negative price", JSON.stringify({ ...trade, price: -1 }), undefined, "INVALID"],
    ["an unknown type", JSON.stringify({ ...trade, type: "tick" }), undefined, "INVALID"],
    ["another schema", JSON.stringify(trade), "signal/1", "WRONG_SCHEMA"],
    ["a later version", JSON.stringify(trade), "market-data/2", "WRONG_SCHEMA"],
    ["deep nesting", "[".repeat(100_000), undefined, "TOO_DEEP"],
    ["a deep unknown field", `{"x":${"[".repeat(MAX_DEPTH)}${"]".repeat(MAX_DEPTH)}}`, undefined, "TOO_DEEP"],
    ["1 MiB + 1", `"${"x".repeat(1024 * 1024 - 1)}"`, undefined, "TOO_LARGE"],
  ])("tells %s apart", (_, text, schemaId, code) => {
    expect(read(text, schemaId)).toBe(code);
  });

  it("does not take brackets in strings for nesting", () => {
    const text = JSON.stringify({ ...trade, note: `\\"${"[".repeat(100)}` });
    expect(read(text)).toBe("none");
  });

  it("drops fields that it does not know", () => {
    expect(decode(MarketData, Buffer.from(JSON.stringify({ ...trade, later: 1 })))).toEqual(trade);
  });

  it("names the field", () => {
    const bad = Buffer.from(JSON.stringify({ ...trade, price: "1" }));
    expect(() => decode(MarketData, bad)).toThrow(/price/);
  });

  it("never throws anything but DecodeError, whatever the bytes", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          fc.json().map((text) => Buffer.from(text)),
        ),
        (bytes) => {
          expect(codeOf(() => decode(Signal, Buffer.from(bytes)))).toMatch(/^[A-Z_]+$/);
        },
      ),
    );
  });
});

describe("encode", () => {
  it.each([Number.NaN, Number.POSITIVE_INFINITY, 0, -1])("refuses a price of %s", (price) => {
    expect(codeOf(() => encode(MarketData, { ...trade, price } as MarketData))).toBe("INVALID");
  });
});

describe("JSON Schema", () => {
  const folder = join(import.meta.dirname, "schemas");
  const read = (file: string) => JSON.parse(readFileSync(join(folder, file), "utf8"));

  it.each(CONTRACTS.map((contract) => [contract.id, contract] as const))(
    "of %s reads everything that its released schemas allowed",
    (_, contract) => {
      const history = join("history", contract.name);
      const files = readdirSync(join(folder, history)).filter((file) =>
        file.startsWith(`v${contract.version}.`),
      );
      expect(files.length).toBeGreaterThan(0);
      const current = jsonSchema(contract);
      for (const file of files) expect(incompatibilities(read(join(history, file)), current)).toEqual([]);
    },
  );

  it.each(CONTRACTS.map((contract) => [contract.id, contract] as const))(
    "of %s describes every field",
    (_, contract) => {
      const missing: string[] = [];
      const visit = (schema: Record<string, unknown>, path: string) => {
        for (const [field, value] of Object.entries((schema["properties"] as object | undefined) ?? {})) {
          if (typeof value.description !== "string") missing.push(`${path}.${field}`);
          visit(value, `${path}.${field}`);
          if (value.items !== undefined) visit(value.items, `${path}.${field}[]`);
        }
        for (const variant of (schema["oneOf"] as Record<string, unknown>[] | undefined) ?? [])
          visit(variant, path);
      };
      visit(jsonSchema(contract), contract.name);
      expect(missing).toEqual([]);
    },
  );

  it("accepts and refuses the same as the reader does", () => {
    const validate = new Ajv2020().compile(jsonSchema(MarketData));
    expect(validate(trade)).toBe(true);
    expect(validate({ ...trade, price: 0 })).toBe(false);
    expect(validate({ ...trade, size: undefined })).toBe(false);
    const { side: _, ...withoutSide } = trade as Extract<MarketData, { type: "trade" }>;
    expect(validate(withoutSide)).toBe(true);
    expect(decode(MarketData, encode(MarketData, withoutSide))).toEqual(withoutSide);
    expect(validate({ ...trade, side: "none" })).toBe(false);
  });
});

describe("incompatibilities", () => {
  it("finds a variant that is no longer read", () => {
    const before = jsonSchema(MarketData) as { oneOf: unknown[] };
    const after = { ...before, oneOf: before.oneOf.slice(1) };
    expect(incompatibilities(before, after)).toHaveLength(1);
    expect(incompatibilities(after, before)).toEqual([]);
  });

  const base = jsonSchema(Signal) as {
    properties: Record<string, Record<string, unknown>>;
    required: string[];
  };
  const changed = (change: (schema: typeof base) => void) => {
    const copy = structuredClone(base);
    change(copy);
    return incompatibilities(base, copy);
  };

  it.each<[string, (schema: typeof base) => void]>([
    ["a removed field", (schema) => delete schema.properties["mu"]],
    ["a new required field", (schema) => schema.required.push("other")],
    ["another type", (schema) => Object.assign(schema.properties["mu"] ?? {}, { type: "string" })],
    ["a narrower range", (schema) => Object.assign(schema.properties["confidence"] ?? {}, { maximum: 0.5 })],
    [
      "a removed choice",
      (schema) => Object.assign(schema.properties["regime"] ?? {}, { enum: ["calm", "normal", "volatile"] }),
    ],
    ["another pattern", (schema) => Object.assign(schema.properties["instrument"] ?? {}, { pattern: "^X$" })],
  ])("finds %s", (_, change) => {
    expect(changed(change)).toHaveLength(1);
  });

  it("allows a new optional field, a wider range and another choice", () => {
    const problems = changed((schema) => {
      schema.properties["note"] = { type: "string" };
      Object.assign(schema.properties["confidence"] ?? {}, { maximum: 2 });
      Object.assign(schema.properties["regime"] ?? {}, {
        enum: ["calm", "normal", "volatile", "stressed", "new"],
      });
    });
    expect(problems).toEqual([]);
  });
});

describe("topics", () => {
  it("are named after what they carry", () => {
    expect(topics.marketData("crypto", "BTCUSDT")).toBe("md.crypto.BTCUSDT");
    expect(topics.signals("momentum")).toBe("signals.momentum");
  });

  it("refuse a part that would change the name's structure", () => {
    expect(() => topics.marketData("crypto", "a.b")).toThrow(/instrument/);
    expect(() => topics.signals("")).toThrow(/deployment/);
  });
});
