import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import type { KubeConfig } from "@kubernetes/client-node";
import { parseDocument } from "yaml";
import { loadKubeConfig } from "#operators/controller-kit/kubeconfig.ts";
import { errnoOf, messageOf, UsageError } from "./common.ts";
import { shown } from "./names.ts";

// The kubeconfig, looked at before the client library sees it: what is wrong with it is said with what to do.

export const LOCAL_ENV = 'eval "$(npm run -s cluster -- env)"';
const ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/token";

export interface Contact {
  readonly config: KubeConfig;
  /** Where it comes from, for people. */
  readonly source: string;
  readonly context: string;
  readonly server: string;
}

/**
 * The configuration and what it leads to.
 *
 * @throws UsageError with a sentence that says what to do
 */
export function readKubeConfig(context: string | undefined): Contact {
  const source = findSource();
  let config: KubeConfig;
  try {
    config = loadKubeConfig();
  } catch (error) {
    throw new UsageError(`${source} cannot be used as a kubeconfig: ${messageOf(error)}`, { cause: error });
  }
  const known = config.getContexts().map(({ name }) => name);
  const has = known.join(", ") || "none";
  if (context !== undefined) {
    if (!known.includes(context))
      throw new UsageError(`the kubeconfig has no context ${shown(context)}; it has ${has}`);
    config.setCurrentContext(context);
  }
  const current = config.getCurrentContext() ?? "";
  const cluster = config.getCurrentCluster();
  const names = config.getContextObject(current);
  if (current === "" || names === null) {
    const which =
      current === "" ? "has no current context" : `has no context ${shown(current)}, its current one`;
    throw new UsageError(
      `${source} ${which}: choose one with --context or kubectl config use-context; it has ${has}`,
    );
  }
  if (cluster === null)
    throw new UsageError(
      `${source}: the context ${current} names the cluster ${shown(names.cluster)}, which is not there`,
    );
  if (names.user && config.getCurrentUser() === null)
    throw new UsageError(
      `${source}: the context ${current} names the user ${shown(names.user)}, who is not there`,
    );
  const { server, skipTLSVerify } = cluster;
  const protocol = URL.canParse(server) ? new URL(server).protocol : "";
  if (!(protocol === "https:" || (protocol === "http:" && skipTLSVerify)))
    throw new UsageError(
      `${source}: the cluster ${cluster.name} has the address ${shown(server)}: it must begin with https://`,
    );
  return { config, source, context: current, server };
}

/** Where the kubeconfig is; throws where there is none, or none that can be read. */
function findSource(): string {
  const named = (process.env["KUBECONFIG"] ?? "").split(delimiter).filter((path) => path !== "");
  if (named.length > 0) {
    for (const path of named) check(path);
    return named.join(" and ");
  }
  const own = join(homedir(), ".kube", "config");
  if (existsSync(own)) {
    check(own);
    return own;
  }
  if (process.env["KUBERNETES_SERVICE_HOST"] && existsSync(ACCOUNT)) return "the pod's service account";
  throw new UsageError(`no kubeconfig: run \`${LOCAL_ENV}\` or set KUBECONFIG (${own} is not there either)`);
}

function check(path: string): void {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    const why: Readonly<Record<string, string>> = {
      ENOENT: `is not there: run \`${LOCAL_ENV}\` or set KUBECONFIG to a file that is`,
      ENOTDIR: `is not there: run \`${LOCAL_ENV}\` or set KUBECONFIG to a file that is`,
      EACCES: "cannot be read: this user has no permission",
      EISDIR: "is a folder: set KUBECONFIG to the file in it",
    };
    throw new UsageError(
      `the kubeconfig ${path} ${why[errnoOf(error) ?? ""] ?? `cannot be read: ${messageOf(error)}`}`,
    );
  }
  const document = parseDocument(text);
  const [broken] = document.errors;
  if (broken !== undefined)
    throw new UsageError(
      `the kubeconfig ${path} is no YAML: ${broken.message.split("\n")[0]?.replace(/:$/, "")}`,
    );
  const read: unknown = document.toJS();
  if (typeof read !== "object" || read === null || !("clusters" in read) || !Array.isArray(read.clusters))
    throw new UsageError(`the file ${path} is no kubeconfig: it names no clusters`);
}
