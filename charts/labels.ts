export const PART_OF = "app.kubernetes.io/part-of";
export const NAME = "app.kubernetes.io/name";

/** The labels of everything that belongs to one part of the platform. */
export function labelsOf(name: string): Record<string, string> {
  return { [NAME]: name, [PART_OF]: "baton" };
}
