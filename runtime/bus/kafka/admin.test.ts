import { expect, it } from "vitest";
import { KafkaAdmin } from "./admin.ts";
import { kafkajs } from "./library.ts";
import type { Link } from "./link.ts";

/** A client whose first requests fail with an error each. */
function failing(...errors: readonly Error[]): Link {
  const left = [...errors];
  const answer = async <T>(value: T): Promise<T> => {
    const error = left.shift();
    if (error !== undefined) throw error;
    return value;
  };
  const client = { connect: () => answer(undefined), listTopics: () => answer(["t"]) };
  return { kafka: { admin: () => client } } as unknown as Link;
}

const lost = () => new kafkajs.KafkaJSConnectionError("the connection is lost");

it("asks again where a connection is lost, also while it begins", async () => {
  const admin = await KafkaAdmin.connect(failing(lost(), lost()));
  expect(await admin.topics()).toEqual(["t"]);
});

it("says that there is no broker when the library has tried for long enough", async () => {
  const gone = new kafkajs.KafkaJSNumberOfRetriesExceeded(lost(), { retryCount: 5, retryTime: 1_000 });
  await expect(KafkaAdmin.connect(failing(gone))).rejects.toMatchObject({ code: "BROKER_UNAVAILABLE" });
});
