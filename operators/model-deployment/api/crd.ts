import * as z from "zod";
import type { Resource } from "#operators/controller-kit/api.ts";
import { analysisTemplateSpec } from "./analysis.ts";
import { instrumentSetSpec, modelDeploymentSpec } from "./model-deployment.ts";
import { modelDeploymentStatus } from "./status.ts";

// The CustomResourceDefinitions, from the zod schemas.

export const GROUP = "baton.dev";
export const VERSION = "v1alpha1";
/** What a person asks for, as JSON: id, verb, and the revision that is meant. */
export const COMMAND_ANNOTATION = "baton.dev/command";

interface Column {
  readonly name: string;
  readonly type: "string" | "integer" | "date";
  readonly jsonPath: string;
  readonly priority?: number;
}

export interface Kind {
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly description: string;
  readonly spec: z.ZodType;
  readonly status?: z.ZodType;
  readonly scale?: boolean;
  /** Most characters of an object's name, where that becomes more than a name. */
  readonly nameLength?: number;
  readonly columns: readonly Column[];
}

export const KINDS: readonly Kind[] = [
  {
    kind: "ModelDeployment",
    plural: "modeldeployments",
    singular: "modeldeployment",
    shortNames: ["md"],
    description: "A model that decides on a stream, and how a new one comes in.",
    spec: modelDeploymentSpec,
    status: modelDeploymentStatus,
    scale: true,
    // A label of all that belongs to it has its name.
    nameLength: 63,
    columns: [
      { name: "Phase", type: "string", jsonPath: ".status.phase" },
      { name: "Stable", type: "string", jsonPath: ".status.stable.version" },
      { name: "Candidate", type: "string", jsonPath: ".status.candidate.version" },
      { name: "Step", type: "integer", jsonPath: ".status.currentStepIndex" },
      { name: "Weight", type: "integer", jsonPath: ".status.weight" },
      { name: "Message", type: "string", jsonPath: ".status.message", priority: 1 },
      { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" },
    ],
  },
  {
    kind: "AnalysisTemplate",
    plural: "analysistemplates",
    singular: "analysistemplate",
    shortNames: ["mdat"],
    description: "What is measured during a release, and what counts as harm.",
    spec: analysisTemplateSpec,
    columns: [{ name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" }],
  },
  {
    kind: "InstrumentSet",
    plural: "instrumentsets",
    singular: "instrumentset",
    shortNames: ["mdis"],
    description: "Instruments that several ModelDeployments share.",
    spec: instrumentSetSpec,
    columns: [{ name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" }],
  },
];

/** Where the objects of a kind live. */
export function resourceOf(kind: string): Resource {
  const known = KINDS.find((entry) => entry.kind === kind);
  if (known === undefined) throw new Error(`${kind} is no kind of ours`);
  return { group: GROUP, version: VERSION, plural: known.plural, kind };
}

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
type Schema = { [key: string]: Json };

/** The structural schema of a zod type: without what JSON Schema knows and the API server does not take. */
export function structural(type: z.ZodType, io: "input" | "output" = "input"): Schema {
  return clean(z.toJSONSchema(type, { target: "openapi-3.0", io }) as Schema);
}

function clean(schema: Schema): Schema {
  const result: Schema = {};
  for (const [key, value] of Object.entries(schema)) {
    if (key === "$schema" || (key === "additionalProperties" && typeof value === "boolean")) continue;
    // zod's own bounds of an integer that has none.
    if ((key === "minimum" || key === "maximum") && Math.abs(Number(value)) === Number.MAX_SAFE_INTEGER)
      continue;
    // A pattern's dialect is Go's, which has no flags and no names for classes.
    if (key === "properties") {
      result[key] = Object.fromEntries(
        Object.entries(value as Schema).map(([name, property]) => [name, clean(property as Schema)]),
      );
    } else if (key === "items" || key === "additionalProperties") {
      result[key] = clean(value as Schema);
    } else {
      result[key] = value;
    }
  }
  if (result["type"] === "integer") result["format"] = "int64";
  return result;
}

/** A kind's definition as an object of the API. */
export function definition(kind: Kind): Schema {
  const { plural, singular, shortNames, description, columns } = kind;
  const properties: Schema = {
    apiVersion: { type: "string" },
    kind: { type: "string" },
    metadata: {
      type: "object",
      ...(kind.nameLength === undefined
        ? {}
        : { properties: { name: { type: "string", maxLength: kind.nameLength } } }),
    },
    spec: structural(kind.spec),
  };
  if (kind.status !== undefined) properties["status"] = structural(kind.status, "output");
  const subresources: Schema = {};
  if (kind.status !== undefined) subresources["status"] = {};
  if (kind.scale === true) {
    subresources["scale"] = {
      specReplicasPath: ".spec.replicas",
      statusReplicasPath: ".status.replicas",
      labelSelectorPath: ".status.selector",
    };
  }
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: {
      name: `${plural}.${GROUP}`,
      labels: { "app.kubernetes.io/part-of": "baton" },
    },
    spec: {
      group: GROUP,
      scope: "Namespaced",
      names: {
        kind: kind.kind,
        listKind: `${kind.kind}List`,
        plural,
        singular,
        shortNames: [...shortNames],
        categories: ["baton"],
      },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          schema: { openAPIV3Schema: { type: "object", description, required: ["spec"], properties } },
          subresources,
          additionalPrinterColumns: columns.map((column) => ({ ...column })),
        },
      ],
    },
  };
}
