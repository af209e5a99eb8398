import { describe, expect, it } from "vitest";
import { fill, fillQuery, fillUrl, namesIn } from "./names.ts";

const NAMES = { revision: "r-1", window: "1d12h", "args.p99": "0.99", "args.max": "1" };
const arg = (value: string) => ({ "args.a": value });

describe("names in a text", () => {
  it("are filled in, with digits, with spaces, next to each other and to braces", () => {
    expect(fill("{{args.p99}}{{ args.max }} {{{revision}}} {x}", NAMES)).toBe("0.991 {r-1} {x}");
    expect([...namesIn("{{a}} {{ b }} {{a}}")]).toEqual(["a", "b"]);
  });

  it.each([
    "{{revison}}",
    "{{args.P99}}",
    "{{}}",
    "{{ }}",
    "{{args.p-99}}",
    "{{toString}}",
    "{{__proto__}}",
    "{{.revision}}",
  ])("%s is an error, not sent as it stands", (text) => {
    for (const fillText of [fill, fillQuery]) expect(() => fillText(text, NAMES)).toThrow("is not known");
    expect(() => fillUrl(`http://a/${text}`, NAMES)).toThrow("is not known");
  });

  it.each(["{{revision", "{{revision}", "x {{ y"])("%s is not closed", (text) => {
    for (const fillText of [fill, fillQuery, fillUrl])
      expect(() => fillText(text, NAMES)).toThrow("{{ without");
  });

  it("fill in no more names by what they are filled with", () => {
    expect(fill("{{args.a}}", arg("{{revision}}"))).toBe("{{revision}}");
    expect(fillQuery("'{{args.a}}'", arg("{{revision}}"))).toBe("'{{revision}}'");
  });
});

describe("a value in PromQL", () => {
  it.each([
    ['x{a="{{args.a}}"}', 'b"} or vector(0) #', 'x{a="b\\"} or vector(0) #"}'],
    ["x{a='{{args.a}}'}", `b'} or "c`, `x{a='b\\'} or "c'}`],
    ['x{a="{{args.a}}"}', "b\\", 'x{a="b\\\\"}'],
    ['x{a="{{args.a}}"}', "b\nc\u0000", 'x{a="b\\x0ac\\x00"}'],
    ['x{a="{{args.a}}"}', "Żółw 🐢", 'x{a="Żółw 🐢"}'],
    ["x{a=`{{args.a}}`}", 'b"\\', 'x{a=`b"\\`}'],
    // The quote before it is escaped: it stands inside still.
    ['x{a="\\"{{args.a}}"}', 'b"', 'x{a="\\"b\\""}'],
    ["x{a='\"', b='{{args.a}}'}", "c d", "x{a='\"', b='c d'}"],
    ["x # it's {{args.a}}\n + {{args.a}}", "5", "x # it's 5\n + 5"],
    ["quantile({{args.a}}, x)", "0.99", "quantile(0.99, x)"],
    ["x > {{args.a}}", "-1.5e-3", "x > -1.5e-3"],
    ["rate(x[{{args.a}}])", "1h30m", "rate(x[1h30m])"],
    ["rate({{args.a}}[5m])", "job:errors_total", "rate(job:errors_total[5m])"],
  ])("%s with %j", (query, value, filled) => {
    expect(fillQuery(query, arg(value))).toBe(filled);
  });

  it.each([
    ["x > {{args.a}}", "1 or vector(0)"],
    ["x > {{args.a}}", ""],
    ["x > {{args.a}}", "Inf"],
    ["x > {{args.a}}", "nan"],
    ["x {{args.a}} y", "or"],
    ["x {{args.a}} y", "OR"],
    ["x{r={{args.a}}}", '"b"'],
    ["x > {{args.a}}", "1 # "],
    ["x > {{args.a}}", "1\n"],
    ["x > {{args.a}}", "r-0123456789"],
    ["x{a=`{{args.a}}`}", "b`} or vector(0) #"],
    ["x # {{args.a}}\n", "b\n or vector(0)"],
    ["x{a='b\\\\'} or {{args.a}}", "vector(0)"],
  ])("%s refuses %j", (query, value) => {
    expect(() => fillQuery(query, arg(value))).toThrow("{{args.a}}");
  });
});

describe("a value in an address", () => {
  it.each([
    [
      "http://a/{{args.a}}/x?y={{args.a}}",
      "b c/d?e#f&g",
      "http://a/b%20c%2Fd%3Fe%23f%26g/x?y=b%20c%2Fd%3Fe%23f%26g",
    ],
    ["http://{{args.a}}/x", "metrics.trading.svc:9090", "http://metrics.trading.svc:9090/x"],
    ["http://a.{{args.a}}.svc:{{args.a}}", "1", "http://a.1.svc:1"],
    ["{{args.a}}/x", "https://a:1/b", "https://a:1/b/x"],
  ])("%s with %j", (url, value, filled) => {
    expect(fillUrl(url, arg(value))).toBe(filled);
  });

  it.each([
    ["http://{{args.a}}/x", "evil.example/"],
    ["http://{{args.a}}/x", "u:p@evil.example"],
    ["http://{{args.a}}.trading.svc/x", "evil.example#"],
    ["http://a/{{args.a}}/x", ".."],
    ["{{args.a}}/x", "file:///etc/passwd"],
    ["{{args.a}}/x", "http://a/?b="],
    ["{{args.a}}/x", "http://u:p@a"],
    ["ftp://{{args.a}}/x", "a"],
  ])("%s refuses %j, and does not show it", (url, value) => {
    expect(() => fillUrl(url, arg(value))).toThrow();
    try {
      fillUrl(url, arg(value));
    } catch (error) {
      if (value.length > 3) expect((error as Error).message).not.toContain(value);
    }
  });
});
