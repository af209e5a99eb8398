import * as z from "zod";
import { int, listByKey, objectName, quantity, resources, stringMap, withRules } from "./kit.ts";

// The pods of a revision. Not all of a pod: what would reach out of it (host paths, host networks, privileges, another
// service account's rights) has no field here, and the security context is the operator's.

const envName = z
  .string()
  .max(128)
  .regex(/^[A-Za-z_][A-Za-z0-9_]*$/);
const key = z.string().max(253);
const keyRef = z.strictObject({ name: objectName, key, optional: z.boolean().optional() });

const env = withRules(
  z.strictObject({
    name: envName.describe("Name of the variable."),
    value: z.string().max(4096).optional(),
    valueFrom: withRules(
      z.strictObject({
        configMapKeyRef: keyRef.optional(),
        secretKeyRef: keyRef.optional(),
        fieldRef: z.strictObject({ fieldPath: z.string().max(253) }).optional(),
      }),
      {
        rule: "[has(self.configMapKeyRef), has(self.secretKeyRef), has(self.fieldRef)].filter(x, x).size() == 1",
        message: "say exactly one of configMapKeyRef, secretKeyRef and fieldRef",
      },
    ).optional(),
  }),
  {
    rule: "!(has(self.value) && has(self.valueFrom))",
    message: "say value or valueFrom, not both",
  },
  {
    rule: "!(self.name in ['DEPLOYMENT', 'REVISION', 'CONFIG_HASH', 'MODEL_URI', 'MODEL_DIGEST', 'TOPICS'])",
    message:
      "DEPLOYMENT, REVISION, CONFIG_HASH, MODEL_URI, MODEL_DIGEST and TOPICS are set by the operator: take it out",
  },
);

const port = z.strictObject({ name: objectName.max(15), containerPort: int(1, 65_535) });
const httpGet = z.strictObject({ path: z.string().max(256), port: z.string().max(15) });
const probe = z.strictObject({
  httpGet,
  initialDelaySeconds: int(0, 3600).optional(),
  periodSeconds: int(1, 300).optional(),
  timeoutSeconds: int(1, 300).optional(),
  failureThreshold: int(1, 1000).optional(),
});

const container = z.strictObject({
  name: objectName,
  image: z.string().min(1).max(512).describe("Image, best by digest."),
  imagePullPolicy: z.enum(["Always", "IfNotPresent", "Never"]).optional(),
  command: z.array(z.string().max(4096)).max(50).optional(),
  args: z.array(z.string().max(4096)).max(50).optional(),
  env: listByKey(env, "name", 100).optional(),
  envFrom: z
    .array(
      withRules(
        z.strictObject({
          configMapRef: z.strictObject({ name: objectName }).optional(),
          secretRef: z.strictObject({ name: objectName }).optional(),
        }),
        {
          rule: "has(self.configMapRef) != has(self.secretRef)",
          message: "say exactly one of configMapRef and secretRef",
        },
      ),
    )
    .max(10)
    .optional(),
  ports: listByKey(port, "name", 10).optional(),
  resources: resources.optional(),
  startupProbe: probe.optional(),
  readinessProbe: probe.optional(),
  livenessProbe: probe.optional(),
  volumeMounts: listByKey(
    z.strictObject({
      name: objectName,
      mountPath: z.string().max(512).regex(/^\//),
      readOnly: z.boolean().optional(),
    }),
    "name",
    10,
  ).optional(),
});

const volume = withRules(
  z.strictObject({
    name: objectName,
    configMap: z.strictObject({ name: objectName }).optional(),
    secret: z.strictObject({ secretName: objectName }).optional(),
    emptyDir: z.strictObject({ sizeLimit: quantity.optional() }).optional(),
  }),
  {
    rule: "[has(self.configMap), has(self.secret), has(self.emptyDir)].filter(x, x).size() == 1",
    message: "say exactly one of configMap, secret and emptyDir",
  },
);

const ownLabels = (name: string) => ({
  rule: `self.all(k, !k.startsWith('baton.dev/') && !k.startsWith('app.kubernetes.io/'))`,
  message: `${name} under baton.dev/ and app.kubernetes.io/ are set by the operator: take them out`,
});

export const podTemplate = z.strictObject({
  metadata: z
    .strictObject({
      labels: withRules(stringMap(30, 63), ownLabels("labels")).optional(),
      annotations: withRules(stringMap(30, 4096), ownLabels("annotations")).optional(),
    })
    .optional(),
  spec: z.strictObject({
    containers: listByKey(container, "name", 5).min(1),
    volumes: listByKey(volume, "name", 10).optional(),
    serviceAccountName: objectName
      .optional()
      .describe("Default: the namespace's default account. Its token is not mounted."),
    imagePullSecrets: listByKey(z.strictObject({ name: objectName }), "name", 5).optional(),
    nodeSelector: stringMap(20, 63).optional(),
    terminationGracePeriodSeconds: int(0, 600).default(30),
  }),
});
