type Schema = { readonly [key: string]: unknown };

/**
 * What a reader of `next` could not read, or would read differently, of messages written by `previous` (both
 * JSON Schemas of one contract version). Empty means compatible: a version may only gain optional fields, widen
 * ranges and add choices.
 */
export function incompatibilities(previous: Schema, next: Schema, path = "message"): string[] {
  const problems: string[] = [];
  const variants = list(previous["oneOf"] ?? previous["anyOf"]);
  if (variants !== undefined) {
    const candidates = list(next["oneOf"] ?? next["anyOf"]) ?? [next];
    for (const [index, variant] of variants.entries()) {
      const fits = candidates.some((candidate) => incompatibilities(variant, candidate, path).length === 0);
      if (!fits) problems.push(`${path}: variant ${index + 1} is no longer read`);
    }
    return problems;
  }
  const reads = types(next);
  const lost = types(previous).filter(
    (type) => !reads.includes(type) && !(type === "integer" && reads.includes("number")),
  );
  if (lost.length > 0) {
    return [`${path}: type ${String(previous["type"])} became ${String(next["type"])}`];
  }
  if (next["const"] !== undefined && next["const"] !== previous["const"]) {
    problems.push(`${path}: only ${JSON.stringify(next["const"])} is read now`);
  }
  const choices = next["enum"];
  if (Array.isArray(choices)) {
    const before = Array.isArray(previous["enum"])
      ? previous["enum"]
      : [previous["const"] ?? "any other text"];
    for (const choice of before) {
      if (!choices.includes(choice))
        problems.push(`${path}: choice ${JSON.stringify(choice)} is no longer read`);
    }
  }
  if (next["pattern"] !== undefined && next["pattern"] !== previous["pattern"]) {
    problems.push(`${path}: pattern changed, which cannot be shown to be wider`);
  }
  for (const bound of ["minimum", "exclusiveMinimum", "minLength", "minItems"]) {
    if (number(next[bound], -Infinity) > number(previous[bound], -Infinity))
      problems.push(`${path}: ${bound} was raised`);
  }
  for (const bound of ["maximum", "exclusiveMaximum", "maxLength", "maxItems"]) {
    if (number(next[bound], Infinity) < number(previous[bound], Infinity))
      problems.push(`${path}: ${bound} was lowered`);
  }
  const before = record(previous["properties"]);
  const after = record(next["properties"]);
  const wasRequired = new Set(strings(previous["required"]));
  for (const field of strings(next["required"])) {
    if (!wasRequired.has(field)) problems.push(`${path}.${field}: required now, and was not written before`);
  }
  for (const [field, schema] of Object.entries(before)) {
    const now = after[field];
    if (now === undefined) problems.push(`${path}.${field}: was removed`);
    else problems.push(...incompatibilities(schema as Schema, now as Schema, `${path}.${field}`));
  }
  if (previous["items"] !== undefined && next["items"] !== undefined) {
    problems.push(...incompatibilities(record(previous["items"]), record(next["items"]), `${path}[]`));
  }
  return problems;
}

function types(schema: Schema): readonly string[] {
  const type = schema["type"];
  return Array.isArray(type) ? type.map(String) : [String(type)];
}

function list(value: unknown): readonly Schema[] | undefined {
  return Array.isArray(value) ? (value as readonly Schema[]) : undefined;
}

function record(value: unknown): Schema {
  return typeof value === "object" && value !== null ? (value as Schema) : {};
}

function strings(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

function number(value: unknown, otherwise: number): number {
  return typeof value === "number" ? value : otherwise;
}
