import type { Container, KeyRef, Pod } from "./types.ts";

/** Reads a ConfigMap's or Secret's data as text; undefined where the object does not exist. */
export type DataReader = (
  kind: "ConfigMap" | "Secret",
  name: string,
) => Promise<Readonly<Record<string, string>> | undefined>;

/** The container cannot be configured; the message becomes the reason that its status shows. */
export class ConfigError extends Error {}

/** Facts that field references may ask for and that the Pod itself does not hold yet. */
export interface PodFacts {
  readonly podIp: string;
  readonly hostIp: string;
}

/** A container's environment as a kubelet makes it: envFrom first, then env in order, with $(NAME) expanded. */
export async function containerEnv(
  pod: Pod,
  container: Container,
  facts: PodFacts,
  read: DataReader,
): Promise<Record<string, string>> {
  const env: Record<string, string> = {};
  for (const source of container.envFrom ?? []) {
    const kind = source.configMapRef === undefined ? "Secret" : "ConfigMap";
    const ref = source.configMapRef ?? source.secretRef;
    if (ref === undefined) continue;
    const data = await read(kind, ref.name);
    if (data === undefined && ref.optional !== true)
      throw new ConfigError(`${kind.toLowerCase()} "${ref.name}" not found`);
    for (const [key, value] of Object.entries(data ?? {})) env[`${source.prefix ?? ""}${key}`] = value;
  }
  for (const variable of container.env ?? []) {
    const value = await variableValue(variable);
    if (value !== undefined) env[variable.name] = value;
  }
  return env;

  async function variableValue(variable: NonNullable<Container["env"]>[number]): Promise<string | undefined> {
    const from = variable.valueFrom;
    if (from === undefined) return expand(variable.value ?? "", env);
    if (from.configMapKeyRef !== undefined) return keyValue("ConfigMap", from.configMapKeyRef);
    if (from.secretKeyRef !== undefined) return keyValue("Secret", from.secretKeyRef);
    if (from.fieldRef !== undefined) return fieldValue(pod, from.fieldRef.fieldPath, facts);
    if (from.resourceFieldRef !== undefined) return resourceValue(container, from.resourceFieldRef.resource);
    return undefined;
  }

  async function keyValue(kind: "ConfigMap" | "Secret", ref: KeyRef): Promise<string | undefined> {
    const value = (await read(kind, ref.name))?.[ref.key];
    if (value === undefined && ref.optional !== true) {
      throw new ConfigError(`couldn't find key ${ref.key} in ${kind} ${pod.metadata.namespace}/${ref.name}`);
    }
    return value;
  }
}

/** Replaces $(NAME) by the variable's value; $$(NAME) escapes; an unknown name stays as it is written. */
export function expand(text: string, env: Readonly<Record<string, string>>): string {
  return text.replace(/\$\$|\$\(([^)]+)\)/g, (match, name: string | undefined) => {
    if (name === undefined) return "$";
    return env[name] ?? match;
  });
}

function fieldValue(pod: Pod, path: string, facts: PodFacts): string {
  const keyed = /^metadata\.(labels|annotations)\['([^']+)'\]$/.exec(path);
  if (keyed !== null) {
    const map = keyed[1] === "labels" ? pod.metadata.labels : pod.metadata.annotations;
    return map?.[keyed[2] ?? ""] ?? "";
  }
  switch (path) {
    case "metadata.name":
      return pod.metadata.name;
    case "metadata.namespace":
      return pod.metadata.namespace;
    case "metadata.uid":
      return pod.metadata.uid;
    case "spec.nodeName":
      return pod.spec.nodeName ?? "";
    case "spec.serviceAccountName":
      return pod.spec.serviceAccountName ?? "default";
    case "status.podIP":
    case "status.podIPs":
      return facts.podIp;
    case "status.hostIP":
    case "status.hostIPs":
      return facts.hostIp;
    default:
      throw new ConfigError(`field reference ${path} is not known to the local node agent`);
  }
}

function resourceValue(container: Container, resource: string): string {
  const [kind, name] = resource.split(".", 2);
  const amounts = kind === "limits" ? container.resources?.limits : container.resources?.requests;
  const value = name === undefined ? undefined : amounts?.[name];
  if (value === undefined)
    throw new ConfigError(`resource ${resource} is not set on container ${container.name}`);
  return value;
}
