import { KubeApi, type KubeObject } from "#operators/controller-kit/api.ts";
import { Reflector } from "#operators/controller-kit/reflector.ts";
import { DISRUPTION_BUDGETS } from "#operators/model-deployment/adapters/budget.ts";
import { DEPLOYMENTS, type Deployment, LABELS } from "#operators/model-deployment/adapters/deployment.ts";
import { MODEL_DEPLOYMENTS } from "#operators/model-deployment/adapters/view.ts";
import { COMMAND_ANNOTATION } from "#operators/model-deployment/api/crd.ts";
import type { Verb } from "#operators/model-deployment/core/observed.ts";
import type { OperatorOptions } from "#operators/model-deployment/operator.ts";
import { MemoryBroker } from "#runtime/bus/memory/broker.ts";
import { MemoryBus } from "#runtime/bus/memory/index.ts";
import { Crash, mortalApi, mortalBus } from "./crash.ts";
import { Crew } from "./crew.ts";
import type { TestCluster } from "./fresh-cluster.ts";
import { shortCanary } from "./model-deployments.ts";
import { type Draft, OperatorBench, type Status } from "./operator-bench.ts";
import { waitFor } from "./wait.ts";

// A release on the real API server whose operator can be killed at each of its writes. Pods run in name only; where a
// revision has some, a worker in this process decides on the stream in their place, with the production code, on the
// in-memory bus.

/** A release that does nothing for so long has come to its end, or is held up: its steps take a second. */
const QUIET_MS = 1_500;
/** What is not as it should be by then will not be. A request that finds no answer is given up after 15 s, and repeated. */
const END_MS = 40_000;

export class Fire {
  readonly bench: OperatorBench;
  readonly #hasStream: boolean;
  readonly #broker = new MemoryBroker();
  readonly #crew: Crew;
  readonly #opened: KubeApi[] = [];
  #deployments: Reflector<Deployment> | undefined;
  #verbs = 0;
  #crash: Crash | undefined;
  #successor: Promise<void> | undefined;

  /** Without a stream nobody decides. */
  constructor(cluster: TestCluster, hasStream = true) {
    this.#hasStream = hasStream;
    this.bench = new OperatorBench(cluster, { bus: new MemoryBus(this.#broker) });
    this.#crew = new Crew(this.#broker, this.bench.name, this.bench.topic);
  }

  async open(): Promise<this> {
    await this.bench.open();
    await this.bench.stopOperator();
    const { api, namespace } = this.bench;
    this.#deployments = new Reflector<Deployment>({
      api,
      namespace,
      onError: () => {},
      resource: DEPLOYMENTS,
      onChange: (deployment, change) => {
        if (this.#hasStream) this.#crew.follow(deployment, change === "deleted");
      },
    });
    await this.#deployments.start();
    return this;
  }

  async close(): Promise<void> {
    await this.bench.close("keep");
    await this.#deployments?.stop();
    await this.#crew.close();
    for (const api of this.#opened) api.close();
  }

  /** Starts an operator that dies where it is told to; another one takes over then, which lives. */
  async operate(crash: Crash, options: Partial<OperatorOptions> = {}): Promise<void> {
    await this.#start(crash, { ...options, epoch: 1 });
    this.#crash = crash;
    this.#successor = crash.died.then(async () => {
      await this.bench.stopOperator();
      await this.#start(new Crash(), { epoch: 2 });
    });
  }

  async #start(crash: Crash, options: Partial<OperatorOptions>): Promise<void> {
    const api = options.api ?? mortalApi(this.#connected(), crash);
    const bus = mortalBus(new MemoryBus(this.#broker), crash);
    await this.bench.startOperator({ ...options, api, bus }).catch((error: unknown) => {
      if (!crash.dead) throw error;
    });
  }

  #connected(): KubeApi {
    const api = new KubeApi(this.bench.pods.config, { fieldManager: "baton" });
    this.#opened.push(api);
    return api;
  }

  /** The object as a watch tells of it; undefined when it is not there. */
  status(): Status | undefined {
    return this.bench.latest();
  }

  until(what: string, check: (status: Status) => unknown, timeoutMs?: number): Promise<Status> {
    return this.bench.until(what, check, timeoutMs);
  }

  stable(version: string): Promise<Status> {
    return this.bench.stable(version);
  }

  /** As `baton` does. */
  async tell(verb: Verb, revision = this.status()?.candidate?.revision ?? ""): Promise<void> {
    this.#verbs += 1;
    const command = JSON.stringify({ id: `c${this.#verbs}`, verb, revision });
    const { api, namespace, name } = this.bench;
    const metadata = { annotations: { [COMMAND_ANNOTATION]: command } };
    await api.merge(MODEL_DEPLOYMENTS, namespace, name, { metadata });
  }

  /** What it has all come to, in words that are the same for each run; a while is waited for it to be so. */
  async end(isOver: (end: End) => boolean = () => true): Promise<End> {
    const deadline = Date.now() + END_MS;
    for (;;) {
      await this.#quiet();
      // It may have died just now.
      if (this.#crash?.dead === true) await this.#successor;
      const end = await this.#seen();
      if (isOver(end) || Date.now() > deadline) return end;
    }
  }

  async #seen(): Promise<End> {
    const { api, namespace } = this.bench;
    const status = this.status();
    const versions = new Map(
      [status?.stable, status?.candidate, ...(status?.history ?? [])].flatMap((one) =>
        one === undefined ? [] : [[one.revision, one.version] as const],
      ),
    );
    const version = (revision = "") => versions.get(revision) ?? revision;
    const of = ({ metadata }: KubeObject) => version(metadata.labels?.[LABELS.revision]);
    const deployments = await api.listAll<Deployment>(DEPLOYMENTS, { namespace });
    const budgets = await api.listAll(DISRUPTION_BUDGETS, { namespace });
    return {
      phase: status?.phase,
      stable: status?.stable?.version,
      candidate: status?.candidate?.version,
      decision: status?.decision?.kind,
      weight: status?.weight,
      owners: status?.assignments?.map(({ revision }) => version(revision)),
      condemned: status?.condemned?.map(version),
      history: status?.history?.map((one) => [one.version, one.completionStatus, one.reason].join(" ")),
      deployments: deployments.map((one) => `${of(one)} ${one.spec.replicas ?? 1}`).toSorted(),
      budgets: budgets.map(of).toSorted(),
      events: status === undefined ? [] : await this.#told(),
    };
  }

  /** Waits until nothing changes any more: what follows a release, old pods above all, takes its time. */
  async #quiet(): Promise<void> {
    let before = "";
    let since = Date.now();
    await waitFor(
      "nothing to change any more",
      () => {
        const status = this.status();
        const deployments = [...(this.#deployments?.objects() ?? [])];
        const now = JSON.stringify([status, deployments.map(({ metadata }) => metadata.generation)]);
        if (now !== before) since = Date.now();
        before = now;
        // What is deleted goes by and by.
        const isLeft = status === undefined && deployments.length > 0;
        return Date.now() - since > QUIET_MS && !isLeft;
      },
      60_000,
      100,
    );
  }

  /** Whether a short pause is told of depends on when it is looked at. What is noted is told by and by. */
  async #told(): Promise<readonly string[]> {
    const noted = new Set(this.status()?.notes?.map(({ reason }) => reason));
    let told = new Set<string>();
    const all = async () => {
      told = new Set(await this.bench.events());
      return noted.isSubsetOf(told);
    };
    await waitFor("the events", all, 20_000, 250).catch(() => {});
    return [...told].filter((reason) => reason !== "Paused").toSorted();
  }
}

export interface End {
  readonly phase: string | undefined;
  readonly stable: string | undefined;
  readonly candidate: string | undefined;
  readonly decision: string | undefined;
  readonly weight: number | undefined;
  readonly owners: readonly string[] | undefined;
  readonly condemned: readonly string[] | undefined;
  /** Version, how it ended, why; the latest first. */
  readonly history: readonly string[] | undefined;
  /** Version and replicas. */
  readonly deployments: readonly string[];
  readonly budgets: readonly string[];
  readonly events: readonly string[];
}

/** What is not alike. */
function differences(end: End, wanted: End): readonly string[] {
  const parts = Object.keys(wanted) as (keyof End)[];
  return parts.flatMap((part) => {
    const [is, should] = [JSON.stringify(end[part]), JSON.stringify(wanted[part])];
    return is === should ? [] : [`${part} is ${is}, not ${should}`];
  });
}

/** What happens to a ModelDeployment. */
export interface Scenario {
  readonly name: string;
  readonly hasStream: boolean;
  readonly run: (fire: Fire) => Promise<void>;
}

const quick = (draft: Draft) => {
  draft["strategy"] = shortCanary("1s");
};
const held = (draft: Draft) => {
  draft["strategy"] = shortCanary("600s");
};
const green = (draft: Draft) => {
  draft["strategy"] = { blueGreen: { autoPromotionSeconds: 1, scaleDownDelaySeconds: 1 } };
};
const begin = async (fire: Fire, spec: Draft) => {
  const refusal = await fire.bench.create(spec);
  if (refusal !== undefined) throw new Error(refusal);
  await fire.stable("1.0.0");
};
/** The candidate decides on BTCUSDT. */
const atFirst = (fire: Fire, version: string) =>
  fire.until(
    `${version} at BTCUSDT`,
    ({ weight, candidate, currentStepIndex }) =>
      weight === 25 && currentStepIndex === 1 && candidate?.version === version,
  );
const over = (fire: Fire, status: string) =>
  fire.until(status, ({ history, candidate }) => history?.[0]?.completionStatus === status && !candidate);

export const SCENARIOS: readonly Scenario[] = [
  {
    name: "canary",
    hasStream: true,
    run: async (fire) => {
      await begin(fire, fire.bench.spec("1.0.0", quick));
      await fire.bench.update(fire.bench.spec("2.0.0", quick));
      await fire.stable("2.0.0");
    },
  },
  {
    name: "canary by weight",
    hasStream: false,
    run: async (fire) => {
      const spec = (version: string) =>
        fire.bench.plainSpec(version, (draft) => {
          draft["replicas"] = 2;
          draft["strategy"] = { canary: { steps: [{ setWeight: 50 }, { pause: { duration: "1s" } }] } };
        });
      await begin(fire, spec("1.0.0"));
      await fire.bench.update(spec("2.0.0"));
      await fire.stable("2.0.0");
    },
  },
  {
    name: "blue/green",
    hasStream: true,
    run: async (fire) => {
      await begin(fire, fire.bench.spec("1.0.0", green));
      await fire.bench.update(fire.bench.spec("2.0.0", green));
      await fire.stable("2.0.0");
      await fire.until("blue to be cold", ({ previousStable }) => previousStable === undefined);
    },
  },
  {
    name: "rollback",
    hasStream: true,
    run: async (fire) => {
      await begin(fire, fire.bench.spec("1.0.0", held));
      await fire.bench.update(fire.bench.spec("2.0.0", held));
      await atFirst(fire, "2.0.0");
      fire.bench.errors = 1;
      await over(fire, "RolledBack");
    },
  },
  {
    name: "supersede",
    hasStream: true,
    run: async (fire) => {
      await begin(fire, fire.bench.spec("1.0.0", held));
      await fire.bench.update(fire.bench.spec("2.0.0", held));
      await atFirst(fire, "2.0.0");
      await fire.bench.update(fire.bench.spec("3.0.0", quick));
      await fire.stable("3.0.0");
    },
  },
  {
    name: "undo",
    hasStream: true,
    run: async (fire) => {
      await begin(fire, fire.bench.spec("1.0.0", quick));
      await fire.bench.update(fire.bench.spec("2.0.0", quick));
      await fire.stable("2.0.0");
      await fire.tell("undo", fire.status()?.stable?.revision);
      await fire.until(
        "it to be undone",
        ({ stable, candidate, history }) =>
          stable?.version === "1.0.0" && candidate === undefined && history?.length === 3,
      );
    },
  },
  {
    name: "delete",
    hasStream: true,
    run: async (fire) => {
      await begin(fire, fire.bench.spec("1.0.0", held));
      await fire.bench.update(fire.bench.spec("2.0.0", held));
      await atFirst(fire, "2.0.0");
      const { api, namespace, name } = fire.bench;
      await api.delete(MODEL_DEPLOYMENTS, namespace, name);
      await waitFor("it to go", async () => fire.status() === undefined);
    },
  },
];

export interface Outcome {
  readonly end: End;
  /** What the operator wrote before it died, or to the end. */
  readonly writes: readonly string[];
  readonly died: boolean;
}

export interface Played {
  readonly crash?: Crash;
  readonly options?: (fire: Fire) => Partial<OperatorOptions>;
  /** What it has to come to. */
  readonly wanted?: End;
}

/** A scenario from its beginning to its end; nothing may be lost or decided twice on the way. */
export async function play(
  cluster: TestCluster,
  scenario: Scenario,
  { crash = new Crash(), options = () => ({}), wanted }: Played = {},
): Promise<Outcome> {
  const fire = await new Fire(cluster, scenario.hasStream).open();
  try {
    if (scenario.hasStream) await fire.bench.startStream(40);
    await fire.operate(crash, options(fire));
    await scenario.run(fire);
    const apart = (end: End) => (wanted === undefined ? [] : differences(end, wanted));
    const end = await fire.end((end) => apart(end).length === 0);
    if (apart(end).length > 0) throw new Error(apart(end).join("; "));
    if (scenario.hasStream && end.stable !== undefined) await fire.bench.verify();
    return { end, writes: crash.writes, died: crash.dead };
  } finally {
    await fire.close();
  }
}
