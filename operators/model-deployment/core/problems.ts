import type { AnalysisTemplateSpec, TemplateRef } from "../api/analysis.ts";
import { MAX_METRICS } from "../api/status.ts";
import type { Observed } from "./observed.ts";

// What is wrong with a spec that only shows beside what it names: templates and instruments of other objects.

interface Use {
  readonly field: string;
  /** Index of the step; undefined in the background. */
  readonly step?: number;
  readonly templates: readonly TemplateRef[];
}

/** Why a spec cannot be acted on, with the field's name; undefined when nothing is wrong. */
export function problemOf(observed: Observed): string | undefined {
  return observed.invalid ?? unknownInstrument(observed) ?? tooManyMetrics(observed);
}

/** A step that names what is not there would change nothing. */
function unknownInstrument({ object, instruments }: Observed): string | undefined {
  const { stream, strategy, instrumentSetRef } = object.spec;
  if (stream === undefined) return undefined;
  const of = instrumentSetRef === undefined ? "spec.instruments" : `InstrumentSet ${instrumentSetRef.name}`;
  const symbols = new Set(instruments.map(({ symbol }) => symbol));
  for (const [i, { setInstruments }] of (strategy.canary?.steps ?? []).entries()) {
    const field = `spec.strategy.canary.steps[${i}].setInstruments`;
    const unknown = setInstruments?.symbols?.filter((symbol) => !symbols.has(symbol)) ?? [];
    if (unknown.length > 0) return `${field}.symbols: ${unknown.join(", ")}: not in ${of}`;
    const { tier } = setInstruments ?? {};
    if (tier !== undefined && !instruments.some((instrument) => instrument.tier === tier))
      return `${field}.tier: ${tier}: no instrument of ${of} has it`;
  }
  return undefined;
}

function tooManyMetrics({ object, templates }: Observed): string | undefined {
  const { analysis, limits = [], strategy } = object.spec;
  const { prePromotionAnalysis: pre, postPromotionAnalysis: post } = strategy.blueGreen ?? {};
  const uses: readonly Use[] = [
    ...(pre === undefined
      ? []
      : [{ field: "spec.strategy.blueGreen.prePromotionAnalysis", step: 0, ...pre }]),
    ...(post === undefined
      ? []
      : [
          {
            field: "spec.strategy.blueGreen.postPromotionAnalysis",
            step: pre === undefined ? 2 : 3,
            ...post,
          },
        ]),
    ...(strategy.canary?.steps ?? []).flatMap((step, i) =>
      step.analysis === undefined
        ? []
        : [{ field: `spec.strategy.canary.steps[${i}].analysis`, step: i, ...step.analysis }],
    ),
  ];
  const background = countOf(analysis?.templates ?? [], templates);
  const all: readonly Use[] = [
    ...(analysis === undefined ? [] : [{ field: "spec.analysis", templates: [] }]),
    ...uses,
  ];
  for (const { field, step = Number.POSITIVE_INFINITY, templates: own } of all) {
    const beside = step >= (analysis?.startingStep ?? 0) ? background : 0;
    const count = limits.length + beside + countOf(own, templates);
    if (count > MAX_METRICS)
      return `${field}.templates: ${count} metrics would be measured at once, those of spec.limits and spec.analysis included: at most ${MAX_METRICS}`;
  }
  return undefined;
}

function countOf(refs: readonly TemplateRef[], templates: ReadonlyMap<string, AnalysisTemplateSpec>): number {
  return refs.reduce((sum, { name }) => sum + (templates.get(name)?.metrics.length ?? 0), 0);
}
