import { ApiException, CustomObjectsApi, type KubeConfig } from "@kubernetes/client-node";
import { definition, GROUP, KINDS, VERSION } from "#operators/model-deployment/api/crd.ts";
import { waitFor } from "./wait.ts";

/** Makes our kinds known to a new cluster. */
export async function installKinds(config: KubeConfig): Promise<void> {
  // Not the typed client for them: it drops the fields whose names begin with x-kubernetes.
  const api = config.makeApiClient(CustomObjectsApi);
  const crds = { group: "apiextensions.k8s.io", version: "v1", plural: "customresourcedefinitions" };
  for (const kind of KINDS) {
    const body = definition(kind);
    const name = `${kind.plural}.${GROUP}`;
    await api.createClusterCustomObject({ ...crds, body });
    await waitFor(`${name} to be established`, async () => {
      const { status } = (await api.getClusterCustomObject({ ...crds, name })) as {
        status?: { conditions?: { type: string; status: string }[] };
      };
      return status?.conditions?.some(({ type, status: is }) => type === "Established" && is === "True");
    });
  }
}

/** Creates an object of one of our kinds; resolves with it, or with the API server's refusal. */
export async function create(
  config: KubeConfig,
  namespace: string,
  kind: string,
  name: string,
  spec: unknown,
  dryRun?: "All",
): Promise<{ readonly object?: Record<string, unknown>; readonly refusal?: string }> {
  const plural = KINDS.find((entry) => entry.kind === kind)?.plural ?? "";
  const body = { apiVersion: `${GROUP}/${VERSION}`, kind, metadata: { name }, spec };
  try {
    const object = await config.makeApiClient(CustomObjectsApi).createNamespacedCustomObject({
      group: GROUP,
      version: VERSION,
      namespace,
      plural,
      body,
      fieldValidation: "Strict",
      ...(dryRun === undefined ? {} : { dryRun }),
    });
    return { object: object as Record<string, unknown> };
  } catch (error) {
    if (!(error instanceof ApiException)) throw error;
    return { refusal: String((JSON.parse(String(error.body)) as { message?: string }).message) };
  }
}
