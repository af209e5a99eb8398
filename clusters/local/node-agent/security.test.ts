import { describe, expect, it } from "vitest";
import { imageUser } from "./images.ts";
import { beyondContainers, processIdentity } from "./security.ts";
import type { Container, Pod } from "./types.ts";

function podOf(spec: object, container: object = {}): [Pod, Container] {
  const main = { name: "main", image: "test/shell:1", ...container };
  const metadata = { name: "pod", namespace: "ns", uid: "1" };
  return [{ metadata, spec: { containers: [main], ...spec } }, main];
}

describe("the identity of a container", () => {
  const identity = (spec: object, container: object, user?: string) => {
    const [pod, main] = podOf({ securityContext: spec }, { securityContext: container });
    const image = { entrypoint: ["sh"], cmd: [], paths: [], user };
    return processIdentity(pod, main, imageUser(image));
  };

  it.each([
    ["the image's user", {}, {}, "7:8", 7, 8],
    ["the image's user, whose group is root's where it names none", {}, {}, "7", 7, 0],
    ["nobody's where the image names none", {}, {}, undefined, 65_532, 65_532],
    ["the Pod's before the image's, in root's group", { runAsUser: 5 }, {}, "7:8", 5, 0],
    ["the container's before the Pod's", { runAsUser: 5, runAsGroup: 6 }, { runAsUser: 9 }, "7:8", 9, 6],
    ["a group with the image's user", { runAsGroup: 6 }, {}, "7:8", 7, 6],
    ["root where the manifest says so", {}, { runAsUser: 0 }, undefined, 0, 0],
  ])("is %s", (_what, pod, container, user, uid, gid) => {
    expect(identity(pod, container, user)).toMatchObject({ uid, gid });
  });

  it("has the Pod's further groups once each", () => {
    const pod = { runAsUser: 5, runAsGroup: 6, fsGroup: 9, supplementalGroups: [6, 7] };
    expect(identity(pod, {}).groups).toEqual([6, 7, 9]);
  });

  it.each([
    ["of the manifest", { runAsUser: 0, runAsNonRoot: true }, {}, undefined, /breaks non-root policy/],
    ["of the image", {}, { runAsNonRoot: true }, "0:0", /image will run as root/],
  ])("is refused where runAsNonRoot meets the root %s", (_what, pod, container, user, message) => {
    expect(() => identity(pod, container, user)).toThrow(message);
  });

  it("lets a container be root where it takes the Pod's runAsNonRoot back", () => {
    expect(identity({ runAsNonRoot: true }, { runAsNonRoot: false, runAsUser: 0 }).uid).toBe(0);
  });

  it.each([
    ["none", { drop: ["ALL"] }, []],
    [
      "those added to none",
      { drop: ["all"], add: ["NET_BIND_SERVICE", "CAP_KILL"] },
      ["KILL", "NET_BIND_SERVICE"],
    ],
  ])("has %s of the capabilities", (_what, capabilities, expected) => {
    expect(identity({}, { capabilities }).capabilities).toEqual(expected);
  });

  it("has a runtime's capabilities by default: without what reaches other processes, mounts or devices", () => {
    const { capabilities } = identity({}, { capabilities: { drop: ["CAP_NET_RAW"] } });
    expect(capabilities).toContain("CHOWN");
    for (const name of ["NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "MKNOD"])
      expect(capabilities).not.toContain(name);
  });

  it("can gain rights unless the manifest forbids it", () => {
    expect(identity({}, {}).noNewPrivileges).toBe(false);
    expect(identity({}, { allowPrivilegeEscalation: false }).noNewPrivileges).toBe(true);
  });
});

describe("what reaches beyond containers is refused", () => {
  it.each([
    ["hostPID", { hostPID: true }, {}],
    ["hostIPC", { hostIPC: true }, {}],
    ["shareProcessNamespace", { shareProcessNamespace: true }, {}],
    ["privileged", {}, { securityContext: { privileged: true } }],
    ["SYS_PTRACE", {}, { securityContext: { capabilities: { add: ["SYS_PTRACE"] } } }],
    ["ALL", {}, { securityContext: { capabilities: { add: ["ALL"] } } }],
  ])("%s", (word, spec, container) => {
    expect(beyondContainers(podOf(spec, container)[0])).toContain(word);
  });

  it("in an init container too, and nothing else is", () => {
    const init = { name: "first", image: "x", securityContext: { privileged: true } };
    expect(beyondContainers(podOf({ initContainers: [init] })[0])).toContain("first");
    expect(beyondContainers(podOf({ hostPID: false })[0])).toBeUndefined();
  });
});
