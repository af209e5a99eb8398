import { structuredPatch } from "diff";
import { parseAllDocuments, stringify } from "yaml";

export interface Change {
  readonly kind: "added" | "removed" | "changed";
  /** kind, namespace and name */
  readonly object: string;
  /** The lines that differ, with some around them. */
  readonly lines: readonly string[];
}

/** What differs between two sets of manifests, object by object, in the order of the objects' names. */
export function difference(before: Iterable<string>, after: Iterable<string>): Change[] {
  const [old, now] = [objectsOf(before), objectsOf(after)];
  return [...new Set([...old.keys(), ...now.keys()])].toSorted().flatMap((object): Change[] => {
    const [was, is] = [old.get(object), now.get(object)];
    if (was === is) return [];
    const kind = was === undefined ? "added" : is === undefined ? "removed" : "changed";
    const { hunks } = structuredPatch(object, object, was ?? "", is ?? "", "", "", { context: 2 });
    return [{ kind, object, lines: hunks.flatMap(({ lines }) => ["…", ...lines]) }];
  });
}

function objectsOf(texts: Iterable<string>): Map<string, string> {
  const objects = new Map<string, string>();
  for (const text of texts) {
    for (const document of parseAllDocuments(text)) {
      const object = document.toJS() as {
        readonly kind: string;
        readonly metadata: { readonly name: string; readonly namespace?: string };
      } | null;
      if (object === null) continue;
      const { kind, metadata } = object;
      const name = [kind, metadata.namespace, metadata.name].filter((part) => part !== undefined).join(" ");
      objects.set(name, stringify(object));
    }
  }
  return objects;
}

const SIGN = { added: "+", removed: "-", changed: "~" } as const;

/** For people: a line for each object, the lines that differ below it, and a summary. */
export function renderDifference(changes: readonly Change[], environment: string): string {
  const count = (kind: Change["kind"]) => changes.filter((change) => change.kind === kind).length;
  const parts = changes.map(({ kind, object, lines }) =>
    [`${SIGN[kind]} ${object}`, ...(kind === "changed" ? lines.map((line) => `    ${line}`) : [])].join("\n"),
  );
  const summary =
    changes.length === 0
      ? `${environment}: no difference`
      : `${environment}: ${count("added")} added, ${count("changed")} changed, ${count("removed")} removed`;
  return [...parts, summary].join("\n");
}
