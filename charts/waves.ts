// In which order Argo CD syncs: a wave begins when all of the one before is healthy.

const ANNOTATION = "argocd.argoproj.io/sync-wave";

const WAVES = {
  namespaces: -5,
  definitions: -4,
  limits: -3,
  platform: -2,
  operator: -1,
  services: 0,
  /** In the order of their kinds' names what a release is measured and split by comes before it: no second wave to wait for. */
  models: 1,
} as const;

export type Wave = keyof typeof WAVES;

export function inWave(wave: Wave): Record<string, string> {
  return { [ANNOTATION]: String(WAVES[wave]) };
}
