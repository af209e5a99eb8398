import * as z from "zod";
import { defineContract } from "./contract.ts";
import * as f from "./fields.ts";

// What the ledger of a deployment records. Its order is the truth about who decides what: every reader folds the same
// records in the same order (runtime/handover/rules.ts).

const at = f.milliseconds("When it was written");
const epoch = z.int().min(1).describe("Number of the request; each one is higher than all before it");
const revision = (what: string) => f.name(what);
const place = {
  topic: z.string().min(1).max(249).describe("Kafka topic of the input"),
  partition: z.int().min(0).describe("Partition of the topic"),
};
const offset = (what: string) =>
  z
    .string()
    .regex(/^\d{1,19}$/)
    .describe(`${what}, an offset of the input partition as decimal text`);

/** Stands for every instrument that is not owned by name. */
export const REST = "*";

export const requestSchema = z
  .object({
    type: z.literal("request").describe("A hand-over is asked for"),
    at,
    epoch,
    instruments: z
      .array(z.union([f.instrument, z.literal(REST)]))
      .min(1)
      .max(10_000)
      .describe("Instruments to move; * is all that are not owned by name"),
    from: revision("Revision that owns them")
      .nullable()
      .describe("Owner until now; null for the first owner"),
    to: revision("Revision that is to own them"),
    partitions: z
      .array(z.object(place).describe("A partition of an input topic"))
      .min(1)
      .max(10_000)
      .describe("Partitions in which they move"),
    reason: z.string().max(500).describe("Why, for people").optional(),
  })
  .describe("Somebody wants instruments to be decided by another revision");

export const conductingSchema = z
  .object({
    type: z.literal("conducting").describe("A conductor begins"),
    at,
    conductor: z.string().min(1).max(64).describe("Identity of the conductor's process"),
  })
  .describe("A conductor took over; whoever reads this has read all that came before it");

export const joinedSchema = z
  .object({
    type: z.literal("joined").describe("A worker begins with a partition"),
    at,
    revision: revision("Revision of the worker"),
    ...place,
    worker: z.string().min(1).max(64).describe("Identity of the worker's process and turn"),
    model: z.string().min(1).max(128).describe("Digest of the model that it has loaded").optional(),
    configuration: z
      .string()
      .min(1)
      .max(128)
      .describe("Hash of the configuration that it was started with")
      .optional(),
  })
  .describe("A worker took a partition over; whoever reads this has read all that came before it");

export const startedSchema = z
  .object({
    type: z.literal("started").describe("A revision begins with a partition"),
    at,
    revision: revision("Revision that begins"),
    ...place,
    offset: offset("First record that the revision computes"),
    left: offset(
      "First record that it had not computed when it was here before; what lies between is left out",
    ).optional(),
  })
  .describe(
    "Where a revision's computing of a partition begins; with `left`, where it begins anew. The latest one counts",
  );

export const reachedSchema = z
  .object({
    type: z.literal("reached").describe("A revision has come so far"),
    at,
    revision: revision("Revision of the worker"),
    ...place,
    offset: offset("First record whose outcome may not have been there yet"),
  })
  .describe("Once a minute: where a worker stands, for the case that its group's position is lost");

export const releasedSchema = z
  .object({
    type: z.literal("released").describe("The owner lets go"),
    at,
    epoch,
    revision: revision("Revision that owned"),
    ...place,
    cut: offset("First record that the next owner decides"),
    forced: z.boolean().describe("Whether the conductor wrote this in the owner's name"),
  })
  .describe("From the cut on the revision no longer decides");

export const filledSchema = z
  .object({
    type: z.literal("filled").describe("The next owner catches up"),
    at,
    epoch,
    revision: revision("Revision that is to own"),
    ...place,
    next: offset("First record that it has not yet decided"),
  })
  .describe("Part of the decisions between the cut and the next owner's position have been written");

export const takenSchema = z
  .object({
    type: z.literal("taken").describe("The next owner decides"),
    at,
    epoch,
    revision: revision("Revision that owns from now on"),
    ...place,
    cut: offset("First record that it decides"),
    next: offset("First record that it had not yet computed"),
  })
  .describe("Everything from the cut on is decided by the revision");

export const completedSchema = z
  .object({ type: z.literal("completed").describe("A request is done"), at, epoch })
  .describe("Every partition of the request has been taken");

/** A record of a deployment's ledger. */
export const Ledger = defineContract(
  "ledger",
  1,
  z
    .discriminatedUnion("type", [
      requestSchema,
      conductingSchema,
      joinedSchema,
      startedSchema,
      reachedSchema,
      releasedSchema,
      filledSchema,
      takenSchema,
      completedSchema,
    ])
    .describe("A step in handing instruments over between revisions"),
);

/** The kill switch of a deployment. */
export const Halt = defineContract(
  "halt",
  1,
  z
    .object({
      halted: z.boolean().describe("Whether live decisions are withheld"),
      sequence: z.int().min(1).describe("The highest number is in force, wherever it is read"),
      reason: z.string().min(1).max(500).describe("Why, for people"),
      at,
    })
    .describe("Whether a deployment may decide"),
);

export type Ledger = z.infer<typeof Ledger.schema>;
export type Halt = z.infer<typeof Halt.schema>;
export type Request = z.infer<typeof requestSchema>;
