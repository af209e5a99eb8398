import { isMap, isScalar, type Node, parseAllDocuments, type YAMLMap } from "yaml";

// Replaces a model in YAML files where it is written, and nothing around it: comments, order and quotes stay.

/** A model as it is written: the source text of each of its fields. */
export type Written = ReadonlyMap<string, string>;

interface Place {
  readonly map: YAMLMap;
  readonly text: string;
}

/** How a model with a digest is written in a file, for a ModelDeployment; undefined where it is not. */
export function writtenModel(text: string, deployment: string, digest: string): Written | undefined {
  const [place] = placesOf(text, deployment, digest);
  return place === undefined ? undefined : new Map(fieldsOf(place));
}

/** The file with another model in the place of the one with a digest; undefined where that is not in it. */
export function replaceModel(
  text: string,
  deployment: string,
  digest: string,
  by: Written,
): string | undefined {
  const edits = placesOf(text, deployment, digest).flatMap((place) =>
    rangesOf(place).flatMap(({ key, from, to }) => {
      const value = by.get(key);
      return value === undefined ? [] : [{ from, to, value }];
    }),
  );
  if (edits.length === 0) return undefined;
  let result = text;
  // From the end, so that what comes before keeps its place.
  for (const { from, to, value } of edits.toSorted((a, b) => b.from - a.from)) {
    result = result.slice(0, from) + value + result.slice(to);
  }
  return result;
}

/**
 * The maps with the digest that belong to the ModelDeployment: in its own manifest, or in a file of values below a map that
 * names it.
 */
function placesOf(text: string, deployment: string, digest: string): Place[] {
  const found: Place[] = [];
  for (const document of parseAllDocuments(text)) {
    if (document.errors.length > 0 || !isMap(document.contents)) continue;
    const root = document.contents;
    const { kind, metadata } = document.toJS() as {
      readonly kind?: string;
      readonly metadata?: { readonly name?: string };
    };
    if (kind !== undefined && (kind !== "ModelDeployment" || metadata?.name !== deployment)) continue;
    const visit = (node: unknown, named: boolean): void => {
      if (!isMap(node)) return;
      const here = named || node.items.some(({ value }) => isScalar(value) && value.value === deployment);
      if (here && node.get("digest") === digest) found.push({ map: node, text });
      for (const { value } of node.items) visit(value, here);
    };
    visit(root, kind !== undefined);
  }
  return found;
}

function rangesOf({ map }: Place): { readonly key: string; readonly from: number; readonly to: number }[] {
  return map.items.flatMap(({ key, value }) => {
    const range = isScalar(value) ? (value as Node).range : undefined;
    if (!isScalar(key) || range === undefined || range === null) return [];
    return [{ key: String(key.value), from: range[0], to: range[1] }];
  });
}

function fieldsOf(place: Place): [string, string][] {
  return rangesOf(place).map(({ key, from, to }) => [key, place.text.slice(from, to)]);
}
