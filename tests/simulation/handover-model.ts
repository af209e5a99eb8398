import { type Ledger, REST } from "#runtime/contracts/ledger.ts";
import { undo } from "#runtime/handover/conduct.ts";
import { type Done, forcedEnd, isDone, repairedDuty } from "#runtime/handover/repair.ts";
import {
  type Duty,
  isLive,
  moves,
  type PartitionState,
  partitionState,
  refusal,
  workerDuty,
} from "#runtime/handover/rules.ts";
import { beginningOf, checkBegun } from "./beginnings.ts";
import { LedgerTree, type Node, releasedRecord, startedRecord } from "./ledger-tree.ts";
import {
  type Add,
  type Boss,
  Breach,
  doneFrom,
  type Force,
  hasRead,
  type ModelConfig,
  REVS,
  type Rev,
  replace,
  type State,
  type Successor,
  stateKey,
  TOPIC,
  type Waits,
  type Worker,
} from "./state.ts";

// A model of the hand-over protocol for exhaustive search. What is decided is decided by the production functions; what
// is modelled is everything around them: a broker with transactions, fencing and committed offsets, workers that read
// the ledger late, crash anywhere and come back, zombies beside their successors, conductors that depose each other.

const NOTHING: ReadonlyMap<bigint, Done> = new Map();

export class Model {
  readonly #config: ModelConfig;
  readonly #ledger: LedgerTree;
  readonly #first: State;
  readonly #revs: readonly Rev[];

  constructor(config: ModelConfig) {
    this.#config = config;
    this.#revs = REVS.slice(0, config.revisions ?? 2);
    this.#ledger = new LedgerTree(this.#places());
    this.#first = this.#begin();
  }

  /** Those that have begun run, the first one owns everything, and nothing has been asked for. */
  initial(): State {
    return this.#first;
  }

  #begin(): State {
    const { partitions, messages, faults, forces, handBacks, duplicates } = this.#config;
    const begun = this.#config.begun ?? this.#revs.length;
    let head = this.#ledger.append(this.#ledger.empty(), {
      type: "request",
      at: 0,
      epoch: 1,
      instruments: [REST],
      from: null,
      to: "a",
      partitions: this.#places(),
    });
    for (const place of this.#places()) {
      const taken = { at: 0, epoch: 1, revision: "a", ...place, cut: "0", next: "0" };
      head = this.#ledger.append(head, { type: "taken", ...taken });
      for (const rev of this.#revs.slice(0, begun))
        head = this.#ledger.append(head, startedRecord(rev, place, 0n));
    }
    const slots = this.#revs.length * partitions;
    const worker: Worker = {
      fence: 1,
      phase: 2,
      position: 0,
      others: [],
      done: NOTHING,
      view: head,
      waits: undefined,
      stale: undefined,
    };
    return {
      head,
      fences: Array(slots).fill(1),
      committed: Array.from({ length: slots }, (_, slot) => (slot < begun * partitions ? 0 : -1)),
      written: Array(slots).fill(0),
      out: Array(partitions * messages.length).fill(0),
      workers: Array.from({ length: slots }, (_, slot) => (slot < begun * partitions ? [worker] : [])),
      bosses: [],
      bossFence: 0,
      asked: 0,
      faults,
      forces,
      handBacks,
      duplicates,
    };
  }

  /** Everything is asked for, taken and decided. */
  done(state: State): boolean {
    return (
      state.asked === this.#config.script.length &&
      [...state.head.state.requests.values()].every(({ open }) => open === 0) &&
      state.out.every((rev) => rev !== 0)
    );
  }

  successors(state: State): Successor[] {
    const list: Successor[] = [];
    const add: Add = (name, next, fault = false) => {
      list.push({ name, state: next, fault });
      return undefined;
    };
    for (const [slot, workers] of state.workers.entries()) {
      for (const index of workers.keys()) this.#workerSteps(state, slot, index, add);
      if (workers.length === 0) add(`spawn ${slot}`, this.#spawn(state, slot));
      else if (workers.length === 1 && state.faults > 0) {
        add(`zombie ${slot}`, this.#spawn({ ...state, faults: state.faults - 1 }, slot), true);
      }
    }
    for (const index of state.bosses.keys()) this.#bossSteps(state, index, add);
    if (state.bosses.length === 0) add("conduct", this.#spawnBoss(state));
    else if (state.bosses.length === 1 && state.faults > 0) {
      add("depose", this.#spawnBoss({ ...state, faults: state.faults - 1 }), true);
    }
    if (state.duplicates > 0) {
      for (let node: Node | undefined = state.head; node?.record !== undefined; node = node.parent) {
        const next = {
          ...state,
          head: this.#ledger.append(state.head, node.record),
          duplicates: state.duplicates - 1,
        };
        add("duplicate", next, true);
      }
    }
    return list;
  }

  /** A key that two states share only when they are the same. */
  key(state: State): string {
    return stateKey(state, this.#config.partitions);
  }

  #workerSteps(state: State, slot: number, index: number, add: Add): undefined {
    const worker = state.workers[slot]?.[index] as Worker;
    const [rev, partition] = this.#revOf(slot);
    const id = `${rev}${partition}.${index}`;
    const put = (base: State, next: Worker | undefined): State => {
      const list = [...(base.workers[slot] as readonly Worker[])];
      if (next === undefined) list.splice(index, 1);
      else list[index] = next;
      return { ...base, workers: replace(base.workers, slot, list) };
    };
    if (state.faults > 0) add(`crash ${id}`, put({ ...state, faults: state.faults - 1 }, undefined), true);
    if (worker.phase === 0) {
      const position = state.committed[slot] ?? 0;
      // Of use to those who begin.
      const revs = position < 0 || this.#config.anew === true ? this.#revs : [];
      const others = revs.map((other) => state.committed[this.#slot(other, partition)] ?? 0);
      // Those who read the ledger first have it from here.
      const view = this.#config.without === "positions first" ? state.head : worker.view;
      return add(`position ${id}`, put(state, { ...worker, phase: 1, position, others, view }));
    }
    const fenced = this.#config.without !== "fencing" && worker.fence !== state.fences[slot];
    // It writes into the ledger first: a fenced worker gets no further.
    if (worker.phase === 1) {
      if (fenced) return add(`fenced ${id}`, put(state, undefined));
      return this.#joinSteps(state, worker, slot, id, put, add);
    }
    if (worker.view.parts[partition] !== state.head.parts[partition]) {
      add(`read ${id}`, put(state, { ...worker, view: state.head }));
    }
    const place = { topic: TOPIC, partition };
    const local = partitionState(worker.view.state, place);
    const duty = repairedDuty(local, rev, BigInt(worker.position), worker.done);
    if (worker.stale === undefined && !hasRead(local, worker.waits)) return undefined;
    checkBegun(local, rev, id);
    if (duty?.kind === "take") {
      if (!duty.keep) throw new Breach(`${id} gives back what it has never taken`);
      if (fenced) return add(`fenced ${id}`, put(state, undefined));
      return this.#takeSteps(state, worker, slot, local, duty, id, put, add);
    }
    if (duty?.kind === "release" && worker.stale === undefined) {
      if (fenced) add(`fenced ${id}`, put(state, undefined));
      else {
        const released = releasedRecord(rev, place, duty.epoch, duty.cut);
        const head = this.#ledger.append(state.head, released);
        add(`release ${id}`, put({ ...state, head }, { ...worker, waits: duty }));
        if (this.#config.without === "same-transaction") {
          add(`release apart ${id}`, put({ ...state, head }, { ...worker, waits: duty, stale: worker.view }));
        }
      }
    }
    // One that has nothing to write hears of it from its group.
    if (fenced) return add(`fenced ${id}`, put(state, undefined));
    if (worker.position >= this.#config.messages.length) return undefined;
    this.#batchStep(state, worker, slot, id, put, add);
  }

  /** It has read the ledger: it goes on where it was, or begins, or begins anew. */
  #joinSteps(
    state: State,
    worker: Worker,
    slot: number,
    id: string,
    put: (base: State, next: Worker | undefined) => State,
    add: Add,
  ): undefined {
    const [rev, partition] = this.#revOf(slot);
    const { without, anew = false } = this.#config;
    const late = without === "positions first";
    const read = late ? worker.view : state.head;
    const view = without === "ledger-read" ? this.#first.head : read;
    const local = partitionState(view.state, { topic: TOPIC, partition });
    const positionOf = (of: Rev, found: number) =>
      Math.max(found, Number(local.started.get(of)?.offset ?? -1n));
    const position = positionOf(rev, worker.position);
    const running = { ...worker, phase: 2 as const, position, view, others: [] };
    // How far it may be behind is not of the protocol: both are tried.
    if (position >= 0)
      add(`ledger ${id}`, put(state, { ...running, done: doneFrom(this.#config, state, slot, position) }));
    if (position >= 0 && !anew) return undefined;
    const others = this.#revs.map((other, at) =>
      positionOf(other, (late ? state.committed[this.#slot(other, partition)] : worker.others[at]) ?? -1),
    );
    const written = Math.max(position, state.written[slot] ?? 0);
    const start = beginningOf(this.#config, local, rev, position < 0 ? undefined : written, others);
    if (start === undefined) return undefined;
    const head = this.#ledger.append(state.head, startedRecord(rev, { topic: TOPIC, partition }, start));
    add(`begin ${id} at ${start}`, put({ ...state, head }, { ...running, position: Number(start) }));
  }

  #batchStep(
    state: State,
    worker: Worker,
    slot: number,
    id: string,
    put: (base: State, next: Worker | undefined) => State,
    add: Add,
  ): undefined {
    const [rev, partition] = this.#revOf(slot);
    const offset = worker.position;
    const place = { topic: TOPIC, partition };
    const local = partitionState((worker.stale ?? worker.view).state, place);
    const instrument = this.#config.messages[offset] as string;
    const written = Math.max(state.written[slot] ?? 0, offset + 1);
    let next: State = { ...state, written: replace(state.written, slot, written) };
    const action = isLive(local, rev, instrument, BigInt(offset)) === undefined ? "shadow" : "live";
    if (action === "live" && !isDone(worker.done, BigInt(offset), action)) {
      next = this.#decide(next, rev, partition, offset, id);
    }
    const done = offset + 1 < worker.position + worker.done.size ? worker.done : NOTHING;
    const duty = repairedDuty(local, rev, BigInt(offset + 1), worker.done);
    let waits: Waits | undefined;
    if (duty?.kind === "release" && worker.stale === undefined) {
      next = {
        ...next,
        head: this.#ledger.append(next.head, releasedRecord(rev, place, duty.epoch, duty.cut)),
      };
      waits = duty;
    }
    const after = { ...worker, position: offset + 1, done, waits, stale: undefined };
    if (this.#config.lag && waits === undefined && worker.done.size === 0)
      add(`batch without a position ${id}`, put(next, after));
    add(`batch ${id}`, put({ ...next, committed: replace(next.committed, slot, offset + 1) }, after));
  }

  #takeSteps(
    state: State,
    worker: Worker,
    slot: number,
    local: PartitionState,
    duty: Duty & { readonly kind: "take" },
    id: string,
    put: (base: State, next: Worker | undefined) => State,
    add: Add,
  ): undefined {
    const [rev, partition] = this.#revOf(slot);
    const offsets: number[] = [];
    for (let offset = Number(duty.fill); offset < worker.position; offset++) {
      if (worker.done.get(BigInt(offset))?.live === true) continue;
      if (moves(local, duty.keys, this.#config.messages[offset] as string)) offsets.push(offset);
    }
    const base = { at: 0, epoch: duty.epoch, revision: rev, topic: TOPIC, partition };
    const fill = (list: readonly number[]) =>
      list.reduce((next, offset) => this.#decide(next, rev, partition, offset, id), state);
    const taken: Ledger = { type: "taken", ...base, cut: String(duty.cut), next: String(worker.position) };
    const all = fill(offsets);
    add(
      `take ${id}`,
      put({ ...all, head: this.#ledger.append(all.head, taken) }, { ...worker, waits: duty }),
    );
    const [first] = offsets;
    if (first === undefined || offsets.length < 2) return undefined;
    // In more than one transaction.
    const part = fill([first]);
    const head = this.#ledger.append(part.head, { type: "filled", ...base, next: String(first + 1) });
    add(`fill ${id}`, put({ ...part, head }, { ...worker, waits: { ...duty, filled: BigInt(first + 1) } }));
  }

  #bossSteps(state: State, index: number, add: Add): undefined {
    const boss = state.bosses[index] as Boss;
    const put = (base: State, next: Boss | undefined): State => {
      const list = [...base.bosses];
      if (next === undefined) list.splice(index, 1);
      else list[index] = next;
      return { ...base, bosses: list };
    };
    if (state.faults > 0) add("crash boss", put({ ...state, faults: state.faults - 1 }, undefined), true);
    if (boss.view !== state.head) {
      add("boss reads", put(state, { ...boss, view: state.head }));
    }
    const { force } = boss;
    if (force !== undefined) return this.#forceStep(state, boss, force, put, add);
    const view = boss.view.state;
    const deposed = boss.fence !== state.bossFence;
    const open = [...view.requests.values()].filter((entry) => entry.open > 0);
    const wanted = this.#config.script[state.asked];
    if (wanted !== undefined && open.length === 0) {
      const { keys: instruments, from, to } = wanted;
      const request = {
        epoch: view.epoch + 1,
        instruments: [...instruments],
        from,
        to,
        partitions: this.#places(),
      };
      if (deposed) add("deposed", put(state, undefined));
      else if (refusal(view, request) === undefined) {
        const head = this.#ledger.append(state.head, { type: "request", at: 0, ...request });
        add("request", { ...state, head, asked: state.asked + 1 });
      } else if (boss.view === state.head) {
        // What was handed back is not asked for again.
        add("skip", { ...state, asked: state.asked + 1 });
      }
    }
    const [only, ...more] = open;
    if (only !== undefined && more.length === 0 && state.handBacks > 0) {
      const request = undo(view, only.request);
      if (request !== undefined) {
        if (deposed) add("deposed", put(state, undefined), true);
        else if (refusal(view, request) === undefined) {
          const head = this.#ledger.append(state.head, { type: "request", at: 0, ...request });
          add("hand back", { ...state, head, handBacks: state.handBacks - 1 }, true);
        }
      }
    }
    if (state.forces === 0) return undefined;
    for (let partition = 0; partition < this.#config.partitions; partition++) {
      for (const rev of this.#revs) {
        if (workerDuty(partitionState(view, { topic: TOPIC, partition }), rev, 0n)?.kind !== "release")
          continue;
        const slot = this.#slot(rev, partition);
        const fence = (state.fences[slot] ?? 0) + 1;
        const next = { ...state, fences: replace(state.fences, slot, fence), forces: state.forces - 1 };
        add(
          `force ${rev}${partition}`,
          put(next, { ...boss, force: { rev, partition, fence, committed: undefined, read: false } }),
          true,
        );
      }
    }
  }

  #forceStep(
    state: State,
    boss: Boss,
    force: Force,
    put: (base: State, next: Boss | undefined) => State,
    add: Add,
  ): undefined {
    const { rev, partition } = force;
    const slot = this.#slot(rev, partition);
    if (force.committed === undefined) {
      return add(
        "force reads",
        put(state, { ...boss, force: { ...force, committed: Math.max(0, state.committed[slot] ?? 0) } }),
      );
    }
    const ended = put(state, { ...boss, force: undefined });
    if (this.#config.without !== "fencing" && force.fence !== state.fences[slot])
      return add("force lost", ended);
    if (!force.read) {
      return add(
        "force reads ledger",
        put(state, { ...boss, view: state.head, force: { ...force, read: true } }),
      );
    }
    const local = partitionState(boss.view.state, { topic: TOPIC, partition });
    const position = Math.max(force.committed, Number(local.started.get(rev)?.offset ?? 0n));
    const done = doneFrom(this.#config, state, slot, position);
    const release = forcedEnd(local, rev, { position: BigInt(position), mark: undefined, done });
    if (release === undefined) return add("force moot", ended);
    const released = releasedRecord(rev, { topic: TOPIC, partition }, release.epoch, release.cut);
    const head = this.#ledger.append(state.head, released);
    add("forced", { ...ended, head });
  }

  /** One live outcome: never a second one, never before those of the same instrument that come first. */
  #decide(state: State, rev: Rev, partition: number, offset: number, who: string): State {
    const { messages } = this.#config;
    const at = partition * messages.length + offset;
    if (state.out[at] !== 0) throw new Breach(`${who} decides ${partition}/${offset} again`);
    for (let before = 0; before < offset; before++) {
      if (messages[before] === messages[offset] && state.out[at - offset + before] === 0) {
        throw new Breach(`${who} decides ${partition}/${offset} before ${before}`);
      }
    }
    return { ...state, out: replace(state.out, at, REVS.indexOf(rev) + 1) };
  }

  #spawn(state: State, slot: number): State {
    const fence = (state.fences[slot] ?? 0) + 1;
    const view = this.#first.head;
    const none = { position: 0, others: [], done: NOTHING, waits: undefined, stale: undefined };
    const worker: Worker = { fence, phase: 0, view, ...none };
    const workers = replace(state.workers, slot, [...(state.workers[slot] as readonly Worker[]), worker]);
    return { ...state, fences: replace(state.fences, slot, fence), workers };
  }

  #spawnBoss(state: State): State {
    const fence = state.bossFence + 1;
    return {
      ...state,
      bossFence: fence,
      bosses: [...state.bosses, { fence, view: state.head, force: undefined }],
    };
  }

  #places() {
    return Array.from({ length: this.#config.partitions }, (_, partition) => ({ topic: TOPIC, partition }));
  }

  #slot(rev: Rev, partition: number): number {
    return REVS.indexOf(rev) * this.#config.partitions + partition;
  }

  #revOf(slot: number): [Rev, number] {
    const { partitions } = this.#config;
    return [REVS[Math.floor(slot / partitions)] as Rev, slot % partitions];
  }
}
