import * as z from "zod";
import { cut } from "#operators/controller-kit/text.ts";
import { MAX_STATUS_BYTES, type ModelDeploymentStatus, modelDeploymentStatus, TEXTS } from "../api/status.ts";

// A status that can be written: texts as long as the schema lets them be, and all of it no larger than it may be. What the
// operator goes by is never touched: that it fits is for the spec's own limits and for the edge to see to.

type Status = ModelDeploymentStatus;
type Fit = (value: unknown) => unknown;

/** Cuts the texts of a value of a schema; undefined where it has none. What needs no cut stays the same value. */
function fitOf(schema: unknown): Fit | undefined {
  if (schema instanceof z.ZodOptional) {
    const inner = fitOf(schema.unwrap());
    return inner && ((value) => (value === undefined ? undefined : inner(value)));
  }
  if (schema instanceof z.ZodString) {
    const max = schema.maxLength ?? Number.POSITIVE_INFINITY;
    if (TEXTS.get(schema) === undefined) return undefined;
    return (value) => (typeof value === "string" ? cut(value, max) : value);
  }
  if (schema instanceof z.ZodArray) {
    const inner = fitOf(schema.element);
    return inner && ((value) => (Array.isArray(value) ? mapped(value, inner) : value));
  }
  if (!(schema instanceof z.ZodObject)) return undefined;
  const fields = Object.entries(schema.shape).flatMap(([name, field]) => {
    const inner = fitOf(field);
    return inner === undefined ? [] : [[name, inner] as const];
  });
  return fields.length === 0 ? undefined : (value) => (isObject(value) ? changed(value, fields) : value);
}

function mapped(list: readonly unknown[], fit: Fit): readonly unknown[] {
  const result = list.map(fit);
  return result.every((entry, i) => entry === list[i]) ? list : result;
}

function changed(
  value: Readonly<Record<string, unknown>>,
  fields: readonly (readonly [string, Fit])[],
): unknown {
  const changes = fields.flatMap(([name, cutField]) => {
    const after = cutField(value[name]);
    return after === value[name] ? [] : [[name, after] as const];
  });
  return changes.length === 0 ? value : { ...value, ...Object.fromEntries(changes) };
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const cutTexts = fitOf(modelDeploymentStatus) as Fit;

/** A value with the texts of a status cut; whatever it is otherwise. */
export const withCutTexts = (value: unknown): unknown => cutTexts(value);

/** What is given up first, while a status is too large: what it says of the past, then everything that is for people only. */
const REDUCTIONS: readonly ((status: Status) => Status)[] = [
  ({ analysis, ...rest }) => ({
    ...rest,
    ...(analysis && {
      analysis: analysis.map((one) => ({ ...one, measurements: one.measurements.slice(-1) })),
    }),
  }),
  ({ history, ...rest }) => ({
    ...rest,
    ...(history && { history: history.map(({ message: _, ...entry }) => entry) }),
  }),
  ({ approvals, ...rest }) => ({
    ...rest,
    ...(approvals && { approvals: approvals.map(({ reason: _, ...approval }) => approval) }),
  }),
  reduced,
];

/** The status as it can be written: it parses by its schema, and is no larger than MAX_STATUS_BYTES. */
export function fitted(status: Status): Status {
  let fit = cutTexts(status) as Status;
  for (const reduction of REDUCTIONS) {
    if (sizeOf(fit) <= MAX_STATUS_BYTES) return fit;
    fit = reduction(fit);
  }
  return fit;
}

function sizeOf(status: Status): number {
  return Buffer.byteLength(JSON.stringify(status));
}

/** A line, and no more. */
const LINE = 64;

/**
 * The decisions and facts of a status, which the operator goes by, without what is for people: the sentences, notes, who owns
 * what (the ledger says so), and values that were measured.
 */
export function reduced(status: Status): Status {
  const { message: _, notes: __, assignments: ___, ...facts } = status;
  const { conditions, decision, analysis, history, approvals, pinned, lastVerb } = facts;
  return {
    ...facts,
    ...(conditions && { conditions: conditions.map((condition) => ({ ...condition, message: "" })) }),
    ...(decision && { decision: { ...decision, message: cut(decision.message, LINE) } }),
    ...(analysis && { analysis: analysis.map(reducedMetric) }),
    ...(history && { history: history.map(({ message: _, ...entry }) => entry) }),
    ...(approvals && { approvals: approvals.map(({ reason: _, ...approval }) => approval) }),
    ...(pinned && { pinned: { revision: pinned.revision, instead: pinned.instead, at: pinned.at } }),
    ...(lastVerb && { lastVerb: { ...lastVerb, result: cut(lastVerb.result, LINE) } }),
  };
}

/** With the time of its last measurement: the next one follows from it. */
function reducedMetric({ measurements, ...counts }: NonNullable<Status["analysis"]>[number]) {
  return { ...counts, measurements: measurements.slice(-1).map(({ at, verdict }) => ({ at, verdict })) };
}
