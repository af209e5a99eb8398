import { ConfigError } from "./env.ts";
import type { Container, Pod, SecurityContext } from "./types.ts";

/** Who the programs of a container are, and what they may do. */
export interface ProcessIdentity {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  /** All that a program which gains rights can ever have, without CAP_. */
  readonly capabilities: readonly string[];
  readonly noNewPrivileges: boolean;
}

/** The user of an image that names none: nobody's, as in distroless images. */
export const DEFAULT_USER = { uid: 65_532, gid: 65_532 } as const;

/** What container runtimes give; toolchain/go/container knows the same ones. */
const DEFAULT_CAPABILITIES = [
  "AUDIT_WRITE",
  "CHOWN",
  "DAC_OVERRIDE",
  "FOWNER",
  "FSETID",
  "KILL",
  "NET_BIND_SERVICE",
  "NET_RAW",
  "SETFCAP",
  "SETGID",
  "SETPCAP",
  "SETUID",
  "SYS_CHROOT",
] as const;

/**
 * The identity that a kubelet would give a container: its own security context before the Pod's before the image's user.
 * Throws {@link ConfigError} where runAsNonRoot forbids the user.
 */
export function processIdentity(
  pod: Pod,
  container: Container,
  image: { readonly uid: number; readonly gid: number } = DEFAULT_USER,
): ProcessIdentity {
  const all = pod.spec.securityContext ?? {};
  const own = container.securityContext ?? {};
  const named = own.runAsUser ?? all.runAsUser;
  const uid = named ?? image.uid;
  // Of a user that is not the image's own, nothing says its group.
  const gid = own.runAsGroup ?? all.runAsGroup ?? (named === undefined ? image.gid : 0);
  if ((own.runAsNonRoot ?? all.runAsNonRoot) === true && uid === 0) {
    throw new ConfigError(
      named === undefined
        ? "container has runAsNonRoot and image will run as root"
        : "container's runAsUser breaks non-root policy",
    );
  }
  const groups = new Set([gid, ...(all.supplementalGroups ?? [])]);
  if (all.fsGroup !== undefined) groups.add(all.fsGroup);
  return {
    uid,
    gid,
    groups: [...groups],
    capabilities: capabilitiesOf(own),
    noNewPrivileges: own.allowPrivilegeEscalation === false,
  };
}

function capabilitiesOf(own: SecurityContext): string[] {
  const plain = (names: readonly string[] = []) => names.map(plainName);
  const dropped = new Set(plain(own.capabilities?.drop));
  const added = plain(own.capabilities?.add);
  const all = new Set<string>(dropped.has("ALL") ? [] : DEFAULT_CAPABILITIES);
  for (const name of dropped) all.delete(name);
  for (const name of added) all.add(name);
  return [...all].sort();
}

function plainName(name: string): string {
  return name.toUpperCase().replace(/^CAP_/, "");
}

/** What a Pod asks for that would reach beyond its containers; undefined when there is nothing. */
export function beyondContainers(pod: Pod): string | undefined {
  const instead = "run this Pod on kind";
  for (const field of ["hostPID", "hostIPC", "shareProcessNamespace"] as const) {
    if (pod.spec[field] === true)
      return `${field}: the local node agent gives each container namespaces of its own; ${instead}`;
  }
  const known = new Set<string>(DEFAULT_CAPABILITIES);
  for (const container of [...(pod.spec.initContainers ?? []), ...pod.spec.containers]) {
    const own = container.securityContext ?? {};
    if (own.privileged === true)
      return `container ${container.name}: the local node agent runs no privileged containers; ${instead}`;
    const strange = (own.capabilities?.add ?? []).map(plainName).find((name) => !known.has(name));
    if (strange !== undefined)
      return `container ${container.name}: the local node agent does not give capability ${strange}; ${instead}`;
  }
  return undefined;
}
