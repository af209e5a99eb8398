import { BusError } from "../errors.ts";
import type { Committed, InRecord, OutRecord, Position, TopicPartition, TopicSpec } from "../port.ts";

export interface GroupMember {
  readonly topics: readonly string[];
  readonly assign: (partitions: readonly TopicPartition[], generation: number) => void;
}

interface Group {
  readonly members: Set<GroupMember>;
  readonly committed: Map<string, Committed>;
  generation: number;
}

/** The log, groups and transactional ids that the in-memory buses of one test share. */
export class MemoryBroker {
  readonly #topics = new Map<string, InRecord[][]>();
  readonly #groups = new Map<string, Group>();
  readonly #epochs = new Map<string, number>();
  readonly #listeners = new Set<() => void>();

  createTopic(spec: TopicSpec): void {
    if (this.#topics.has(spec.name)) return;
    this.#topics.set(
      spec.name,
      Array.from({ length: spec.partitions }, () => []),
    );
  }

  deleteTopic(name: string): void {
    this.#topics.delete(name);
  }

  topicNames(): readonly string[] {
    return [...this.#topics.keys()];
  }

  partitions(topic: string): readonly InRecord[][] {
    const found = this.#topics.get(topic);
    if (found === undefined) throw new BusError("UNKNOWN_TOPIC", topic);
    return found;
  }

  log({ topic, partition }: TopicPartition): InRecord[] {
    const log = this.partitions(topic)[partition];
    if (log === undefined) throw new BusError("UNKNOWN_TOPIC", `${topic}/${partition}`);
    return log;
  }

  append(record: OutRecord, partition: number): Position {
    const { topic } = record;
    const log = this.log({ topic, partition });
    const offset = BigInt(log.length);
    log.push({
      topic,
      partition,
      offset,
      key: record.key,
      value: record.value === null ? null : Buffer.from(record.value),
      headers: { ...record.headers },
      timestamp: record.timestamp ?? Date.now(),
    });
    this.#notify();
    return { topic, partition, offset };
  }

  /** Takes over a transactional id; the number returned is the only one that may commit. */
  fence(id: string): number {
    const epoch = (this.#epochs.get(id) ?? 0) + 1;
    this.#epochs.set(id, epoch);
    return epoch;
  }

  checkEpoch(id: string, epoch: number): void {
    if (this.#epochs.get(id) !== epoch) throw new BusError("FENCED", id);
  }

  join(groupId: string, member: GroupMember): void {
    this.#group(groupId).members.add(member);
    this.#rebalance(groupId);
  }

  leave(groupId: string, member: GroupMember): void {
    this.#group(groupId).members.delete(member);
    this.#rebalance(groupId);
  }

  commit(groupId: string, positions: readonly Position[], generation?: number, metadata = ""): void {
    const group = this.#group(groupId);
    if (generation !== undefined && generation !== group.generation)
      throw new BusError("REBALANCED", groupId);
    for (const position of positions)
      group.committed.set(`${position.topic}/${position.partition}`, { offset: position.offset, metadata });
  }

  committed(groupId: string, topic: string, partition: number): Committed | undefined {
    return this.#groups.get(groupId)?.committed.get(`${topic}/${partition}`);
  }

  /** Calls back, in its own turn, after every change of the log. */
  onAppend(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #notify(): void {
    for (const listener of this.#listeners) queueMicrotask(listener);
  }

  #group(id: string): Group {
    let group = this.#groups.get(id);
    if (group === undefined) {
      group = { members: new Set(), committed: new Map(), generation: 0 };
      this.#groups.set(id, group);
    }
    return group;
  }

  #rebalance(id: string): void {
    const group = this.#group(id);
    group.generation += 1;
    const members = [...group.members];
    const shares = members.map((): TopicPartition[] => []);
    const topics = [...new Set(members.flatMap((member) => member.topics))];
    for (const topic of topics) {
      const candidates = members.flatMap((member, index) => (member.topics.includes(topic) ? [index] : []));
      for (const partition of this.partitions(topic).keys()) {
        shares[candidates[partition % candidates.length] ?? 0]?.push({ topic, partition });
      }
    }
    for (const [index, member] of members.entries()) member.assign(shares[index] ?? [], group.generation);
  }
}
