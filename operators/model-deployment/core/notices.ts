import {
  type NotificationService,
  type Notifications,
  TRIGGERS,
  type Trigger,
} from "../api/notifications.ts";
import { fill } from "./names.ts";

// Who is told of what, and in which words.

export interface Notice {
  /** The same notice, sent again, has the same. */
  readonly id: string;
  readonly namespace: string;
  readonly name: string;
  readonly reason: string;
  readonly message: string;
  readonly phase: string;
  /** Version of the stable model; empty when there is none. */
  readonly stable: string;
  readonly candidate: string;
  /** RFC 3339. */
  readonly at: string;
}

const SLACK = "*{{namespace}}/{{name}}* {{reason}}: {{message}}";
const WEBHOOK = `{"id":"{{id}}","trigger":"{{trigger}}","namespace":"{{namespace}}","name":"{{name}}","reason":"{{reason}}","message":"{{message}}","phase":"{{phase}}","stable":"{{stable}}","candidate":"{{candidate}}","at":"{{at}}"}`;

export function triggerOf(reason: string): Trigger | undefined {
  const entry = Object.entries(TRIGGERS).find(([, reasons]) =>
    (reasons as readonly string[]).includes(reason),
  );
  return entry?.[0] as Trigger | undefined;
}

/** The services that are told of a notice. A notice to the team goes to all. */
export function receivers(
  { services, subscriptions }: Notifications,
  { reason, namespace }: Notice,
): readonly NotificationService[] {
  const trigger = triggerOf(reason);
  if (trigger === undefined) return [];
  if (trigger === "on-team-notice") return services;
  const names = new Set(
    subscriptions
      .filter(
        ({ triggers, namespaces }) => triggers.includes(trigger) && (namespaces?.includes(namespace) ?? true),
      )
      .flatMap((subscription) => subscription.services),
  );
  return services.filter(({ name }) => names.has(name));
}

/** The body that a service is sent. */
export function bodyOf({ type, template }: NotificationService, notice: Notice): string {
  const names = { ...notice, trigger: triggerOf(notice.reason) ?? "" };
  if (type === "slack") return JSON.stringify({ text: fill(template ?? SLACK, names) });
  return fill(template ?? WEBHOOK, names, (value) => JSON.stringify(value).slice(1, -1));
}
