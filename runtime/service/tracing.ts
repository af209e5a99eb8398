import { randomBytes } from "node:crypto";
import { context, type Span, SpanKind, TraceFlags, type Tracer, trace } from "@opentelemetry/api";

/** Name of the header that carries a W3C trace context. */
export const TRACE_HEADER = "traceparent";

const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;

export interface TraceContext {
  /** 32 hexadecimal digits. */
  readonly traceId: string;
  /** 16 hexadecimal digits. */
  readonly spanId: string;
  readonly sampled: boolean;
}

/** A trace context from its header; undefined for anything that is not one. */
export function parseTraceparent(header: string | undefined): TraceContext | undefined {
  const match = header === undefined ? null : TRACEPARENT.exec(header);
  if (match === null) return undefined;
  const [, traceId, spanId, flags] = match as unknown as [string, string, string, string];
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
}

/** A new trace's header. */
export function newTraceparent(sampled: boolean): string {
  const bytes = randomBytes(24).toString("hex");
  return `00-${bytes.slice(0, 32)}-${bytes.slice(32)}-${sampled ? "01" : "00"}`;
}

/**
 * Starts a span that continues a record's trace; undefined when the record is not sampled, so that a stream of
 * thousands a second costs nothing.
 */
export function continueTrace(tracer: Tracer, name: string, header: string | undefined): Span | undefined {
  const parent = parseTraceparent(header);
  if (parent?.sampled !== true) return undefined;
  const remote = trace.setSpanContext(context.active(), {
    traceId: parent.traceId,
    spanId: parent.spanId,
    traceFlags: TraceFlags.SAMPLED,
    isRemote: true,
  });
  return tracer.startSpan(name, { kind: SpanKind.CONSUMER }, remote);
}

/** The header that passes a trace on: the span's, or the received one where there is no span. */
export function passOn(span: Span | undefined, header: string | undefined): string | undefined {
  if (span === undefined) return header;
  const { traceId, spanId, traceFlags } = span.spanContext();
  if (/^0+$/.test(traceId)) return header;
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}`;
}

/**
 * Sends spans to an OTLP endpoint, or does nothing without one. Returns what flushes and stops it. The SDK is
 * loaded only when it is used: it costs 20 MB and 100 ms.
 */
export async function startTracing(
  service: string,
  endpoint: string | undefined,
): Promise<() => Promise<void>> {
  if (endpoint === undefined) return async () => {};
  const [{ NodeTracerProvider }, { BatchSpanProcessor }, { OTLPTraceExporter }, { resourceFromAttributes }] =
    await Promise.all([
      import("@opentelemetry/sdk-trace-node"),
      import("@opentelemetry/sdk-trace-base"),
      import("@opentelemetry/exporter-trace-otlp-http"),
      import("@opentelemetry/resources"),
    ]);
  const exporter = new OTLPTraceExporter({ url: `${endpoint.replace(/\/$/, "")}/v1/traces` });
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({ "service.name": service }),
    spanProcessors: [new BatchSpanProcessor(exporter, { maxQueueSize: 2048, scheduledDelayMillis: 1_000 })],
  });
  provider.register();
  return () => provider.shutdown();
}
