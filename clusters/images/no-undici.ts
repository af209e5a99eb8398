// Stands in for undici in bundles. The Kubernetes client library loads it, 10 MB of memory, for requests that it makes by
// `fetch`; of that library we use what reads kubeconfigs, and make our requests by node:https.

export class Agent {
  constructor() {
    throw new Error("there is no undici in this bundle");
  }
}
export const ProxyAgent = Agent;
export const fetch = (): never => {
  throw new Error("there is no undici in this bundle");
};
