import type { AnalysisTemplateSpec } from "#operators/model-deployment/api/analysis.ts";
import {
  type Instrument,
  type ModelDeploymentSpec,
  modelDeploymentSpec,
} from "#operators/model-deployment/api/model-deployment.ts";
import type { ModelDeploymentStatus } from "#operators/model-deployment/api/status.ts";
import type {
  Command,
  Effect,
  Note,
  Observed,
  Plan,
  Result,
  RevisionView,
  StreamView,
  Unreadable,
  Verb,
} from "#operators/model-deployment/core/observed.ts";
import { plan } from "#operators/model-deployment/core/plan.ts";
import { revisionOf } from "#operators/model-deployment/core/revision.ts";
import { goodSpec } from "./model-deployments.ts";
import { assertWritable } from "./writable.ts";

// A world in which a ModelDeployment is released: it does what a plan asks for, as a cluster would, and can be made to
// fail. For tests of the core.

const NO_INSTRUMENTS: readonly Instrument[] = [];

/** A spec on its way, of which tests change what they like. */
// biome-ignore lint/suspicious/noExplicitAny: any field of it may be anything, until the schema has seen it.
export type Draft = Record<string, any>;

/** A good spec as the API server hands it out, with changes. */
export function specOf(version: string, change: (spec: Draft) => void = () => {}): ModelDeploymentSpec {
  const spec: Draft = goodSpec();
  spec["model"].version = version;
  spec["model"].digest = `sha256:${Buffer.from(version).toString("hex").padEnd(64, "0")}`;
  spec["replicas"] = 2;
  delete spec["analysis"];
  spec["strategy"] = {
    canary: {
      steps: [
        { setInstruments: { symbols: ["BTCUSDT"] } },
        { pause: { duration: "10s" } },
        { setInstruments: { tier: "low" } },
        { setInstruments: { all: true } },
      ],
    },
  };
  change(spec);
  return modelDeploymentSpec.parse(spec);
}

export class World {
  now = Date.parse("2026-01-01T00:00:00Z");
  spec: ModelDeploymentSpec;
  status: ModelDeploymentStatus = {};
  generation = 1;
  invalid: string | undefined;
  command: Command | Unreadable | undefined;
  /** Of the InstrumentSet that the spec names, where it names one. */
  instruments: readonly Instrument[] | undefined;
  templates = new Map<string, AnalysisTemplateSpec>();
  /** Replicas asked for, and how many of them are ready. */
  readonly pods = new Map<
    string,
    { -readonly [K in keyof Omit<RevisionView, "revision">]: RevisionView[K] }
  >();
  readonly owners = new Map<string, string | undefined>();
  hasStream = true;
  reachable = true;
  halted = false;
  /** A hand-over that was asked for, until the next one. */
  movingTo: string | undefined;
  /** Pods of these never become available. */
  readonly dead = new Set<string>();
  readonly incoherent = new Set<string>();
  /** What a measurement yields. */
  measure: (name: string, candidate: string) => Omit<Result, "name" | "at"> = () => ({
    value: 0,
    baseline: 0,
    samples: 100,
  });
  readonly events: Note[] = [];
  /** Everything that was done, in order. */
  readonly done: Effect[] = [];
  #results: Result[] = [];
  #commands = 0;

  constructor(spec: ModelDeploymentSpec) {
    this.spec = spec;
  }

  /** Another world in the same state, without what has been done and told. */
  clone(): World {
    const { spec, status, now, generation, invalid, command, instruments } = this;
    const { hasStream, reachable, halted, movingTo } = this;
    const world = new World(spec);
    Object.assign(world, {
      status,
      now,
      generation,
      invalid,
      command,
      instruments,
      hasStream,
      reachable,
      halted,
      movingTo,
    });
    world.templates = this.templates;
    world.measure = this.measure;
    for (const [revision, pods] of this.pods) world.pods.set(revision, { ...pods });
    for (const [key, owner] of this.owners) world.owners.set(key, owner);
    for (const revision of this.dead) world.dead.add(revision);
    for (const revision of this.incoherent) world.incoherent.add(revision);
    world.#results = [...this.#results];
    world.#commands = this.#commands;
    return world;
  }

  /** Measurements that no pass has seen yet. */
  get results(): readonly Result[] {
    return this.#results;
  }

  observe(): Observed {
    const revisions: RevisionView[] = [...this.pods].map(([revision, pods]) => ({ revision, ...pods }));
    const stream: StreamView | undefined = this.hasStream
      ? {
          reachable: this.reachable,
          halted: this.halted,
          owners: new Map(this.owners),
          movingTo: this.movingTo,
          epoch: 1,
          reports: undefined,
        }
      : undefined;
    const { spec, status, generation, command } = this;
    return {
      now: this.now,
      object: { name: "momentum", namespace: "trading", generation, spec, status, command },
      invalid: this.invalid,
      instruments: this.instruments ?? spec.instruments ?? NO_INSTRUMENTS,
      templates: this.templates,
      revisions,
      stream,
      results: this.#results,
    };
  }

  /** One pass: looks, decides, writes, does. A crash after the write does none of the effects. */
  pass(crash = false): Plan {
    const decided = plan(this.observe());
    assertWritable(decided.status);
    this.status = JSON.parse(JSON.stringify(decided.status)) as ModelDeploymentStatus;
    this.events.push(...decided.events);
    this.#results = [];
    if (crash) return decided;
    for (const effect of decided.effects) this.#do(effect);
    return decided;
  }

  /** Passes until nothing happens any more at this moment. */
  settle(): Plan {
    for (let i = 0; i < 50; i++) {
      const before = JSON.stringify([this.status, [...this.pods], [...this.owners]]);
      const decided = this.pass();
      if (JSON.stringify([this.status, [...this.pods], [...this.owners]]) === before) return decided;
    }
    throw new Error(`does not settle: ${this.status.message}`);
  }

  /** Lets time pass, with a look each second, as the plan's own waits would have it. */
  wait(seconds: number): void {
    for (let i = 0; i < seconds; i++) {
      this.now += 1_000;
      this.settle();
    }
  }

  update(spec: ModelDeploymentSpec): void {
    this.spec = spec;
    this.generation += 1;
  }

  tell(
    verb: Verb,
    revision = this.status.candidate?.revision ?? "",
    more: Pick<Command, "to" | "reason" | "gate" | "by"> = {},
  ): void {
    this.#commands += 1;
    this.command = { id: `c${this.#commands}`, verb, revision, ...more };
  }

  revision(): string {
    return revisionOf(this.spec);
  }

  /** The first revision is stable. */
  begin(): this {
    this.settle();
    return this;
  }

  #do(effect: Effect): void {
    this.done.push(effect);
    switch (effect.kind) {
      case "Scale": {
        const { revision, replicas } = effect;
        const available = this.dead.has(revision) ? 0 : replicas;
        if (effect.template === "spec" && revision !== this.revision())
          throw new Error(`${revision} would get the template of ${this.revision()}`);
        if (effect.template === "own" && replicas > 0 && !this.pods.has(revision))
          throw new Error(`${revision} has no Deployment`);
        const { edited, ...before } = this.pods.get(revision) ?? {};
        this.pods.set(revision, {
          ...before,
          ...(edited === undefined || effect.template === "spec" ? {} : { edited }),
          replicas,
          available,
          coherent: !this.incoherent.has(revision),
        });
        return;
      }
      case "Protect": {
        const pods = this.pods.get(effect.revision);
        if (pods !== undefined) delete pods.budget;
        return;
      }
      case "DeleteRevision":
        this.pods.delete(effect.revision);
        return;
      case "Restart": {
        const pods = this.pods.get(effect.revision);
        if (pods !== undefined) pods.restartedAt = effect.at;
        return;
      }
      case "Route": {
        const keys = effect.instruments.includes("*")
          ? new Set([...this.owners.keys(), "*"])
          : new Set(effect.instruments);
        for (const key of keys) this.owners.set(key, effect.to);
        this.movingTo = undefined;
        return;
      }
      case "Measure":
        this.#results.push({
          name: effect.name,
          hash: effect.hash,
          at: this.now,
          ...this.measure(effect.name, effect.candidate),
        });
        return;
    }
  }
}
