import type { Chart } from "cdk8s";
import type { IConfigMap } from "cdk8s-plus-28";
import { addRole } from "./rights.ts";
import { addService } from "./service.ts";
import { imageOf, type Values } from "./values.ts";

const NAME = "git-write-back";
const FILES = "/etc/baton/git";

/** What writes rollbacks back to Git: the only one with Git's credentials, and without any right to write here. */
export function addWriteBack(scope: Chart, values: Values, endpoints: IConfigMap): void {
  const { writeBack, namespace, logLevel } = values;
  if (writeBack === undefined) return;
  const { repository, branch, path, mode, secret, sign, resources } = writeBack;
  addService(scope, {
    name: NAME,
    image: imageOf(values, NAME),
    // Several would do no harm and no good.
    replicas: 1,
    usesApi: true,
    env: {
      NAMESPACE: namespace,
      GIT_URL: repository,
      GIT_BRANCH: branch,
      GIT_PATH: path,
      GIT_MODE: mode,
      GIT_CREDENTIALS_FILE: `${FILES}/credentials`,
      ...(sign ? { GIT_SIGNING_KEY_FILE: `${FILES}/signing-key` } : {}),
    },
    secretFiles: { secret, at: FILES },
    scratch: true,
    endpoints,
    logLevel,
    resources,
    wave: "services",
  });
  addRole(scope, {
    of: NAME,
    accountNamespace: namespace,
    namespace,
    rules: [{ apiGroups: ["baton.dev"], resources: ["modeldeployments"], verbs: ["list", "watch"] }],
    wave: "services",
  });
}
