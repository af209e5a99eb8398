import type { Random } from "#runtime/market/random.ts";

/** Ridge regression by its normal equations: weights and, last, the intercept. */
export function ridge(x: readonly (readonly number[])[], y: readonly number[], lambda: number): number[] {
  const width = (x[0]?.length ?? 0) + 1;
  const a = Array.from({ length: width }, () => new Array<number>(width).fill(0));
  const b = new Array<number>(width).fill(0);
  for (const [i, features] of x.entries()) {
    const row = [...features, 1];
    for (let j = 0; j < width; j++) {
      b[j] = (b[j] ?? 0) + (row[j] ?? 0) * (y[i] ?? 0);
      const aj = a[j] as number[];
      for (let k = 0; k < width; k++) aj[k] = (aj[k] ?? 0) + (row[j] ?? 0) * (row[k] ?? 0);
    }
  }
  for (let j = 0; j < width - 1; j++) (a[j] as number[])[j] = (a[j]?.[j] ?? 0) + lambda;
  return solve(a, b);
}

/** Gaussian elimination with partial pivoting. */
function solve(a: readonly number[][], b: readonly number[]): number[] {
  const n = b.length;
  const m = a.map((row, i) => [...row, b[i] ?? 0]);
  for (let column = 0; column < n; column++) {
    let pivot = column;
    for (let row = column + 1; row < n; row++) {
      if (Math.abs(m[row]?.[column] ?? 0) > Math.abs(m[pivot]?.[column] ?? 0)) pivot = row;
    }
    [m[column], m[pivot]] = [m[pivot] as number[], m[column] as number[]];
    const top = m[column] as number[];
    for (let row = column + 1; row < n; row++) {
      const current = m[row] as number[];
      const factor = (current[column] ?? 0) / (top[column] ?? 1);
      for (let k = column; k <= n; k++) current[k] = (current[k] ?? 0) - factor * (top[k] ?? 0);
    }
  }
  const solution = new Array<number>(n).fill(0);
  for (let row = n - 1; row >= 0; row--) {
    const current = m[row] as number[];
    let value = current[n] ?? 0;
    for (let k = row + 1; k < n; k++) value -= (current[k] ?? 0) * (solution[k] ?? 0);
    solution[row] = value / (current[row] ?? 1);
  }
  return solution;
}

/** One hidden layer of tanh and a linear output. */
export interface Network {
  /** [features][hidden] */
  readonly w1: number[][];
  readonly b1: number[];
  readonly w2: number[];
  b2: number;
}

/** Fits a network by stochastic gradient descent with momentum; the same seed gives the same numbers. */
export function fitNetwork(
  x: readonly (readonly number[])[],
  y: readonly number[],
  hidden: number,
  epochs: number,
  random: Random,
): Network {
  const width = x[0]?.length ?? 0;
  const network: Network = {
    w1: Array.from({ length: width }, () =>
      Array.from({ length: hidden }, () => random.normal() / Math.sqrt(width)),
    ),
    b1: new Array<number>(hidden).fill(0),
    w2: Array.from({ length: hidden }, () => random.normal() / Math.sqrt(hidden)),
    b2: 0,
  };
  const layer = new Array<number>(hidden).fill(0);
  for (let epoch = 0; epoch < epochs; epoch++) {
    const rate = 0.01 / (1 + epoch);
    for (let step = 0; step < x.length; step++) {
      const i = Math.floor(random.uniform() * x.length);
      const row = x[i] as readonly number[];
      let output = network.b2;
      for (let h = 0; h < hidden; h++) {
        let sum = network.b1[h] ?? 0;
        for (let j = 0; j < width; j++) sum += (row[j] ?? 0) * (network.w1[j]?.[h] ?? 0);
        layer[h] = Math.tanh(sum);
        output += (layer[h] ?? 0) * (network.w2[h] ?? 0);
      }
      // Targets are scaled to 1; an outlier moves the weights by no more than three of them.
      const error = Math.max(-3, Math.min(3, output - (y[i] ?? 0)));
      network.b2 -= rate * error;
      for (let h = 0; h < hidden; h++) {
        const value = layer[h] ?? 0;
        const back = error * (network.w2[h] ?? 0) * (1 - value * value);
        network.w2[h] = (network.w2[h] ?? 0) - rate * error * value;
        network.b1[h] = (network.b1[h] ?? 0) - rate * back;
        for (let j = 0; j < width; j++) {
          const weights = network.w1[j] as number[];
          weights[h] = (weights[h] ?? 0) - rate * back * (row[j] ?? 0);
        }
      }
    }
  }
  return network;
}

/** Share of the variance of `y` that the forecasts explain. */
export function explained(y: readonly number[], forecasts: readonly number[]): number {
  const mean = y.reduce((sum, value) => sum + value, 0) / y.length;
  const total = y.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const rest = y.reduce((sum, value, i) => sum + (value - (forecasts[i] ?? 0)) ** 2, 0);
  return 1 - rest / total;
}
