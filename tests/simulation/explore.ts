import { Model } from "./handover-model.ts";
import { Breach, type ModelConfig, type State, type Successor } from "./state.ts";

export interface Exploration {
  readonly states: number;
  readonly closed: boolean;
  /** The steps to the first breach; undefined when there is none. */
  readonly breach: { readonly message: string; readonly steps: readonly string[] } | undefined;
  /** States from which, without further faults, the end is not reached. */
  readonly stuck: number;
  readonly stuckSteps: readonly string[];
}

/** Explores breadth first up to so many states. Whether states are stuck is known only of a closed exploration. */
export function explore(config: ModelConfig, limit = 5_000_000): Exploration {
  const model = new Model(config);
  const ids = new Map<string, number>();
  const parents: number[] = [-1];
  const names: string[] = [""];
  const done: number[] = [];
  const edges: number[] = [];
  let frontier: State[] = [model.initial()];
  ids.set(model.key(frontier[0] as State), 0);
  let id = 0;
  const pathOf = (from: number): string[] => {
    const steps: string[] = [];
    for (let at = from; at > 0; at = parents[at] as number) steps.push(names[at] as string);
    return steps.reverse();
  };
  while (frontier.length > 0) {
    const next: State[] = [];
    for (const state of frontier) {
      if (model.done(state)) done.push(id);
      let successors: Successor[];
      try {
        successors = model.successors(state);
      } catch (error) {
        if (!(error instanceof Breach)) throw error;
        const steps = pathOf(id);
        return {
          states: ids.size,
          closed: false,
          breach: { message: error.message, steps },
          stuck: 0,
          stuckSteps: [],
        };
      }
      for (const { name, state: successor, fault } of successors) {
        const key = model.key(successor);
        let to = ids.get(key);
        if (to === undefined) {
          to = ids.size;
          ids.set(key, to);
          parents.push(id);
          names.push(name);
          next.push(successor);
        }
        if (!fault) edges.push(id, to);
      }
      id += 1;
      if (ids.size >= limit)
        return { states: ids.size, closed: false, breach: undefined, stuck: 0, stuckSteps: [] };
    }
    frontier = next;
  }
  const reached = backwards(ids.size, edges, done);
  const stuck = reached.reduce((count, is) => count + (is === 0 ? 1 : 0), 0);
  const stuckSteps = stuck === 0 ? [] : pathOf(reached.indexOf(0));
  return { states: ids.size, closed: true, breach: undefined, stuck, stuckSteps };
}

/** Which states lead to one of the targets, by edges given as pairs. */
function backwards(count: number, edges: readonly number[], targets: readonly number[]): Uint8Array {
  const starts = new Int32Array(count + 1);
  const at = (array: Int32Array, index: number) => array[index] ?? 0;
  for (let i = 1; i < edges.length; i += 2) {
    const to = (edges[i] as number) + 1;
    starts[to] = at(starts, to) + 1;
  }
  for (let i = 0; i < count; i++) starts[i + 1] = at(starts, i + 1) + at(starts, i);
  const fill = starts.slice();
  const sources = new Int32Array(edges.length / 2);
  for (let i = 0; i < edges.length; i += 2) {
    const to = edges[i + 1] as number;
    const place = at(fill, to);
    sources[place] = edges[i] as number;
    fill[to] = place + 1;
  }
  const reached = new Uint8Array(count);
  const queue = [...targets];
  for (const target of targets) reached[target] = 1;
  while (queue.length > 0) {
    const to = queue.pop() as number;
    for (let i = starts[to] as number; i < (starts[to + 1] as number); i++) {
      const from = sources[i] as number;
      if (reached[from] === 1) continue;
      reached[from] = 1;
      queue.push(from);
    }
  }
  return reached;
}
