// The x509 library finds its parts through it.
import "reflect-metadata";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";
import { stringify } from "yaml";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const YEARS = 10;
type KeyPair = Awaited<ReturnType<typeof keyPair>>;

/** Who gets a client certificate: file name → subject. Groups and names are the ones Kubernetes gives rights to. */
const CLIENTS = {
  admin: "CN=baton-admin,O=system:masters",
  "controller-manager": "CN=system:kube-controller-manager",
  scheduler: "CN=system:kube-scheduler",
  "node-agent": "CN=system:node:local,O=system:nodes",
} as const;

/** As whom the API server calls the kubelet's endpoints. */
export const KUBELET_CLIENT = "kube-apiserver-kubelet-client";

/** Changes with what the folder has to hold: an older one is made anew. */
const COMPLETE = "2";

export type ClientName = keyof typeof CLIENTS;

export const CLIENT_NAMES = Object.keys(CLIENTS) as ClientName[];

/**
 * Makes, once, everything the control plane needs to know who is who: a CA, the API server's certificate,
 * a client certificate and kubeconfig for each component, what the API server and the kubelet's endpoints know each other by, and the key that signs service-account tokens.
 * Private keys are readable by the owner alone.
 */
export async function ensurePki(folder: string, serverUrl: string): Promise<void> {
  const complete = join(folder, "complete");
  if ((await readFile(complete, "utf8").catch(() => undefined)) === COMPLETE) return;
  const now = new Date();
  const until = new Date(now.getTime() + YEARS * 365 * 86_400_000);
  const validity = {
    notBefore: new Date(now.getTime() - 60_000),
    notAfter: until,
    signingAlgorithm: ALGORITHM,
  };

  const caKeys = await keyPair();
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity,
    serialNumber: "01",
    name: "CN=baton-local",
    keys: caKeys,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ],
  });
  const caPem = ca.toString("pem");
  await writeFile(join(folder, "ca.crt"), caPem);

  let serial = 2;
  const issue = async (file: string, subject: string, usage: string, extra: x509.Extension[] = []) => {
    const keys = await keyPair();
    const certificate = await x509.X509CertificateGenerator.create({
      ...validity,
      serialNumber: (serial++).toString(16).padStart(2, "0"),
      subject,
      issuer: ca.subject,
      publicKey: keys.publicKey,
      signingKey: caKeys.privateKey,
      extensions: [
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([usage]),
        ...extra,
      ],
    });
    const pem = { certificate: certificate.toString("pem"), key: await privatePem(keys) };
    await writeFile(join(folder, `${file}.crt`), pem.certificate);
    await writeFile(join(folder, `${file}.key`), pem.key, { mode: 0o600 });
    return pem;
  };

  const names = new x509.SubjectAlternativeNameExtension([
    { type: "ip", value: "127.0.0.1" },
    { type: "dns", value: "localhost" },
    { type: "dns", value: "kubernetes.default.svc" },
  ]);
  await issue("apiserver", "CN=kube-apiserver", x509.ExtendedKeyUsage.serverAuth, [names]);
  const loopback = new x509.SubjectAlternativeNameExtension([{ type: "ip", value: "127.0.0.1" }]);
  await issue("kubelet", "CN=system:node:local,O=system:nodes", x509.ExtendedKeyUsage.serverAuth, [loopback]);
  await issue("kubelet-client", `CN=${KUBELET_CLIENT}`, x509.ExtendedKeyUsage.clientAuth);
  for (const client of CLIENT_NAMES) {
    const pem = await issue(client, CLIENTS[client], x509.ExtendedKeyUsage.clientAuth);
    const text = kubeconfig(serverUrl, caPem, client, {
      "client-certificate-data": base64(pem.certificate),
      "client-key-data": base64(pem.key),
    });
    await writeFile(join(folder, `${client}.kubeconfig`), text, { mode: 0o600 });
  }

  const signer = await keyPair();
  await writeFile(join(folder, "service-accounts.key"), await privatePem(signer), { mode: 0o600 });
  const spki = await crypto.subtle.exportKey("spki", signer.publicKey);
  await writeFile(join(folder, "service-accounts.pub"), x509.PemConverter.encode(spki, "PUBLIC KEY"));
  // Written last: an interrupted run starts over.
  await writeFile(complete, COMPLETE);
}

/** A kubeconfig with one cluster, one user and one context. */
export function kubeconfig(server: string, caPem: string, user: string, credentials: object): string {
  return stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "baton-local", cluster: { server, "certificate-authority-data": base64(caPem) } }],
    users: [{ name: user, user: credentials }],
    contexts: [{ name: "baton-local", context: { cluster: "baton-local", user } }],
    "current-context": "baton-local",
  });
}

export async function readCa(folder: string): Promise<string> {
  return await readFile(join(folder, "ca.crt"), "utf8");
}

function keyPair() {
  return crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
}

async function privatePem(keys: KeyPair): Promise<string> {
  const pkcs8 = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return x509.PemConverter.encode(pkcs8, "PRIVATE KEY");
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}
