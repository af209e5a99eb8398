// JSON schemas for kubeconform from what an API server says of its kinds.

interface Schema {
  readonly $ref?: string;
  readonly type?: string;
  readonly format?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
  readonly "x-kubernetes-group-version-kind"?: readonly {
    readonly group: string;
    readonly version: string;
    readonly kind: string;
  }[];
  readonly [key: string]: unknown;
}

export type Definitions = Readonly<Record<string, Schema>>;

const PREFIX = "#/definitions/";

/** By file name, as kubeconform looks for them: kind, the first part of the group, version. */
export function schemasOf(definitions: Definitions): Map<string, object> {
  const all = Object.fromEntries(Object.entries(definitions).map(([name, schema]) => [name, strict(schema)]));
  const files = new Map<string, object>([["definitions.json", { definitions: all }]]);
  for (const [name, schema] of Object.entries(definitions)) {
    for (const { group, version, kind } of schema["x-kubernetes-group-version-kind"] ?? []) {
      const suffix = [group.split(".")[0], version].filter((part) => part !== "").join("-");
      files.set(`${kind.toLowerCase()}-${suffix}.json`, { $ref: `definitions.json${PREFIX}${name}` });
    }
  }
  return files;
}

/** The schema of a kind that a CustomResourceDefinition defines; its metadata are the API server's own. */
export function schemaOfDefinition(definition: unknown): object {
  const { spec } = definition as {
    readonly spec: {
      readonly versions: readonly { readonly schema: { readonly openAPIV3Schema: Schema } }[];
    };
  };
  const schema = spec.versions[0]?.schema.openAPIV3Schema ?? {};
  return strict({ ...schema, properties: { ...schema.properties, metadata: { type: "object" } } });
}

/** The same schema, which takes no field that it does not name, and numbers or text where Kubernetes takes both. */
function strict(schema: Schema): object {
  if (schema.format === "int-or-string" || schema["x-kubernetes-int-or-string"] === true) {
    return { anyOf: [{ type: "integer" }, { type: "string" }] };
  }
  const { properties, additionalProperties, items, ...rest } = schema;
  const open = schema["x-kubernetes-preserve-unknown-fields"] === true;
  return {
    ...rest,
    ...(properties === undefined
      ? {}
      : {
          properties: Object.fromEntries(
            Object.entries(properties).map(([key, value]) => [key, strict(value)]),
          ),
          ...(additionalProperties === undefined && !open ? { additionalProperties: false } : {}),
        }),
    ...(additionalProperties === undefined
      ? {}
      : {
          additionalProperties:
            typeof additionalProperties === "boolean" ? additionalProperties : strict(additionalProperties),
        }),
    ...(items === undefined ? {} : { items: strict(items) }),
  };
}
