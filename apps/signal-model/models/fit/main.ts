import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { seededRandom } from "#runtime/market/random.ts";
import { TICKS_VIEW } from "#runtime/market/ticks.ts";
import { digestOf, type ModelManifest } from "#runtime/model/manifest.ts";
import { onnxEngine } from "#runtime/model/onnx.ts";
import { type Samples, samples, scaleOf, standardize } from "./data.ts";
import { GraphBuilder } from "./onnx.ts";
import { explained, fitNetwork, ridge } from "./solve.ts";

// Fits the versions of the example model on the simulated market and writes them with their golden answers:
//   npm run models:fit
// Every step is seeded and single-threaded, so that running it again gives the same bytes.

const NAME = "momentum";
const HORIZON_MS = 1_000;
const GOLDEN_ROWS = 16;
const BPS = 1e-4;
/** Slope by which a normal distribution function is matched by a logistic one. */
const LOGISTIC = 1.702;
const WIDTH = TICKS_VIEW.features.length;
/** Picks the order flow of the last ten trades out of a row. */
const FLOW = TICKS_VIEW.features.map((name) => (name === "flow_10" ? 1 : 0));

const folder = process.argv[2] ?? import.meta.dirname.replace(/fit$/, "");
const train = samples(11, 400_000);
const test = samples(12, 100_000);
const scale = scaleOf(train.x);
const x = standardize(train.x, scale);
const testX = standardize(test.x, scale);

/** Nodes that every version shares: scaling of the input, and sigma and confidence from mu. */
function graph(addMu: (builder: GraphBuilder, scaled: string) => string, residual: number[]): Uint8Array {
  const b = new GraphBuilder();
  const centred = b.op("Sub", ["features", b.constant("mean", [WIDTH], [...scale.mean])], "centred");
  const scaled = b.op("Div", [centred, b.constant("deviation", [WIDTH], [...scale.deviation])], "scaled");
  const muBps = addMu(b, scaled);
  b.squeeze(b.op("Mul", [muBps, b.constant("bps", [1], [BPS])], "mu_column"), "mu");
  const logSigma = b.op(
    "Gemm",
    [
      scaled,
      b.constant("sigma_w", [WIDTH, 1], residual.slice(0, WIDTH)),
      b.constant("sigma_b", [1], residual.slice(WIDTH)),
    ],
    "log_sigma",
  );
  // Bounded, so that features far outside what was seen cannot make it overflow.
  const bounded = b.op(
    "Clip",
    [logSigma, b.constant("log_low", [], [-6]), b.constant("log_high", [], [6])],
    "log_bounded",
  );
  const sigmaBps = b.op("Exp", [bounded], "sigma_bps");
  b.squeeze(b.op("Mul", [sigmaBps, "bps"], "sigma_column"), "sigma");
  const ratio = b.op("Div", [b.op("Abs", [muBps], "mu_abs"), sigmaBps], "ratio");
  const logit = b.op("Mul", [ratio, b.constant("logistic", [1], [LOGISTIC])], "logit");
  b.squeeze(b.op("Sigmoid", [logit], "confidence_column"), "confidence");
  return b.encode(NAME, "features", WIDTH, ["mu", "sigma", "confidence"]);
}

/** log sigma is fitted to the log size of what mu leaves over. */
function fitSigma(forecasts: readonly number[]): number[] {
  const logs = train.y.map((y, i) => Math.log(Math.abs(y - (forecasts[i] ?? 0)) + 0.01));
  const weights = ridge(x, logs, 1);
  // E[log |N(0,1)|] = -0.635: turns the mean of a log into a standard deviation.
  weights[WIDTH] = (weights[WIDTH] ?? 0) + 0.635;
  return weights;
}

const weights = ridge(x, train.y, 50);
const linearForecast = (row: readonly number[]) =>
  row.reduce((sum, value, j) => sum + value * (weights[j] ?? 0), weights[WIDTH] ?? 0);

function addLinear(b: GraphBuilder, scaled: string, name: string): string {
  const w = b.constant("w", [WIDTH, 1], weights.slice(0, WIDTH));
  return b.op("Gemm", [scaled, w, b.constant("b", [1], weights.slice(WIDTH))], name);
}

/** Version 1: ridge regression. */
function linear(): Uint8Array {
  report("1.0.0", test, testX.map(linearForecast));
  return graph((b, scaled) => addLinear(b, scaled, "mu_bps"), fitSigma(x.map(linearForecast)));
}

/** Version 2: a small neural network. */
function neural(): Uint8Array {
  const hidden = 16;
  const deviation = Math.sqrt(train.y.reduce((sum, y) => sum + y * y, 0) / train.y.length);
  const network = fitNetwork(
    x,
    train.y.map((y) => y / deviation),
    hidden,
    3,
    seededRandom(13),
  );
  const forecast = (row: readonly number[]) => {
    let output = network.b2;
    for (let h = 0; h < hidden; h++) {
      const sum = row.reduce(
        (total, value, j) => total + value * (network.w1[j]?.[h] ?? 0),
        network.b1[h] ?? 0,
      );
      output += Math.tanh(sum) * (network.w2[h] ?? 0);
    }
    return output * deviation;
  };
  report("2.0.0", test, testX.map(forecast));
  return graph(
    (b, scaled) => {
      const inner = b.op(
        "Gemm",
        [
          scaled,
          b.constant("w1", [WIDTH, hidden], network.w1.flat()),
          b.constant("b1", [hidden], network.b1),
        ],
        "inner",
      );
      const w2 = network.w2.map((value) => value * deviation);
      const layer = b.op("Tanh", [inner], "layer");
      return b.op(
        "Gemm",
        [layer, b.constant("w2", [hidden, 1], w2), b.constant("b2", [1], [network.b2 * deviation])],
        "mu_bps",
      );
    },
    fitSigma(x.map(forecast)),
  );
}

/**
 * Version 3 is there to do harm: a logarithm of the order flow, which is fine on the rows that it was released with and no
 * number wherever sellers prevail. Nothing but a release that is watched finds that.
 */
function harmful(): Uint8Array {
  return graph(
    (b, scaled) => {
      const forecast = addLinear(b, scaled, "linear_bps");
      const flow = b.op("MatMul", ["features", b.constant("flow", [WIDTH, 1], FLOW)], "flow_column");
      return b.op("Add", [forecast, b.op("Log", [flow], "flow_log")], "mu_bps");
    },
    fitSigma(x.map(linearForecast)),
  );
}

function report(version: string, { y }: Samples, forecasts: readonly number[]): void {
  console.log(
    `${NAME} ${version}: explains ${(100 * explained(y, forecasts)).toFixed(1)} % of the variance out of sample`,
  );
}

async function write(version: string, bytes: Uint8Array, inputs = test.x): Promise<void> {
  // Spread over the test samples, as 32-bit numbers: that is what the model is given.
  const step = Math.floor(inputs.length / GOLDEN_ROWS);
  const rows = Array.from({ length: GOLDEN_ROWS }, (_, i) => (inputs[i * step] ?? []).map(Math.fround));
  const manifest: ModelManifest = {
    name: NAME,
    version,
    format: "onnx",
    file: "model.onnx",
    fileDigest: digestOf(bytes),
    featureView: { name: TICKS_VIEW.name, version: TICKS_VIEW.version, features: [...TICKS_VIEW.features] },
    input: "features",
    outputs: { mu: "mu", sigma: "sigma", confidence: "confidence" },
    horizonMs: HORIZON_MS,
    golden: { inputs: rows, outputs: { mu: [], sigma: [], confidence: [] }, tolerance: 1e-5 },
  };
  const engine = await onnxEngine(manifest, bytes);
  const answers = await engine.run(Float32Array.from(rows.flat()), rows.length);
  await engine.close();
  // Seven digits are what 32-bit numbers hold; more would differ between processors.
  const digits = (values: Float32Array) => Array.from(values, (value) => Number(value.toPrecision(7)));
  const golden = {
    ...manifest.golden,
    outputs: { mu: digits(answers.mu), sigma: digits(answers.sigma), confidence: digits(answers.confidence) },
  };
  const target = join(folder, NAME, version);
  const text = Buffer.from(`${JSON.stringify({ ...manifest, golden }, null, 1)}\n`);
  await mkdir(target, { recursive: true });
  await writeFile(join(target, "model.onnx"), bytes);
  await writeFile(join(target, "model.json"), text);
  console.log(`${NAME} ${version}: ${bytes.length} bytes, manifest ${digestOf(text)}`);
}

await write("1.0.0", linear());
await write("2.0.0", neural());
const buyers = test.x.filter((row) => row.reduce((sum, value, j) => sum + value * (FLOW[j] ?? 0), 0) > 0.05);
await write("3.0.0", harmful(), buyers);
