import type { Report } from "#runtime/handover/rules.ts";
import type { Reports, RevisionView } from "./observed.ts";

// Whether every replica of a revision is what was released. Its pods say what they were made of, its workers what they
// have loaded.

/** A revision with what its workers have to report. */
export interface Identified extends RevisionView {
  readonly identity: Report;
}

/** The revisions with what the ledger says of their workers; as they are where the ledger has not been read. */
export function withReports(
  revisions: readonly Identified[],
  reports: Reports | undefined,
): readonly RevisionView[] {
  return revisions.map(({ identity, ...view }) => {
    if (reports === undefined || view.replicas === 0) return view;
    const said = reports.get(view.revision) ?? [];
    const wrong = said.find((report) => report !== undefined && !isSame(report, identity));
    const deviation = wrong === undefined ? undefined : describe(wrong, identity);
    const complete = said.length > 0 && said.every((report) => report !== undefined);
    return { ...view, coherent: view.coherent && complete && wrong === undefined, deviation };
  });
}

function isSame(a: Report, b: Report): boolean {
  return a.model === b.model && a.configuration === b.configuration;
}

function describe(is: Report, should: Report): string {
  if (is.model !== should.model)
    return `a replica has loaded the model ${is.model}, and ${should.model} was released`;
  return `a replica was started with the configuration ${is.configuration ?? "(none)"}, and ${should.configuration} was released`;
}
