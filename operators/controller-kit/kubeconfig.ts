import { readFileSync } from "node:fs";
import { KubeConfig, type User } from "@kubernetes/client-node";
import { parse } from "yaml";
import * as z from "zod";

const tokenFiles = z.object({
  users: z
    .array(z.object({ name: z.string(), user: z.object({ tokenFile: z.string().optional() }).nullish() }))
    .default([]),
});

/**
 * The configuration of this process: KUBECONFIG, a pod's own, or the user's. The library leaves out a token's file that a
 * kubeconfig names; it is read again when it changes.
 */
export function loadKubeConfig(): KubeConfig {
  const config = new KubeConfig();
  config.loadFromDefault();
  const path = process.env["KUBECONFIG"];
  if (path === undefined || path.includes(":")) return config;
  const { users } = tokenFiles.parse(parse(readFileSync(path, "utf8")));
  const fileOf = new Map(users.map(({ name, user }) => [name, user?.tokenFile]));
  config.users = config.users.map((user): User => {
    const tokenFile = fileOf.get(user.name);
    return tokenFile === undefined
      ? user
      : { ...user, authProvider: { name: "tokenFile", config: { tokenFile } } };
  });
  return config;
}
