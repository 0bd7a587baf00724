// Hits by hour, gathered into the hours or days of a chart.

import type { HourOfHits } from "../types";

export type Span = "day" | "week" | "month" | "quarter";

export const SPANS: [Span, string][] = [
  ["day", "Last 24 hours"],
  ["week", "Last 7 days"],
  ["month", "Last 30 days"],
  ["quarter", "Last 12 weeks"],
];

export const HOURS: Record<Span, number> = { day: 24, week: 24 * 7, month: 24 * 30, quarter: 24 * 7 * 12 };

export interface Bin {
  /** Its first moment, in milliseconds since 1970. */
  start: number;
  title: string;
}

export interface Series {
  /** The edit's id; null: all edits that have no series of their own. */
  edit: string | null;
  counts: number[];
  total: number;
}

/** Edits that have a colour of their own, at most. */
const OWN = 5;

/** Return the bins of a span, the last of them the present one, by the reader's own clock. */
export function binsOf(span: Span, now = new Date()): Bin[] {
  const starts: Date[] = [];
  const at = new Date(now);
  at.setMinutes(0, 0, 0);
  if (span !== "day") at.setHours(0);
  const count = { day: 24, week: 7, month: 30, quarter: 12 }[span];
  if (span === "quarter") at.setDate(at.getDate() - ((at.getDay() + 6) % 7)); // weeks begin on Mondays
  for (let i = 0; i < count; i++) {
    starts.unshift(new Date(at));
    if (span === "day") at.setHours(at.getHours() - 1);
    else at.setDate(at.getDate() - (span === "quarter" ? 7 : 1));
  }
  return starts.map((start) => ({ start: start.getTime(), title: titleOf(start, span) }));
}

function titleOf(start: Date, span: Span): string {
  if (span === "day") return start.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const day = start.toLocaleDateString("en-GB", { weekday: span === "week" ? "short" : undefined, day: "numeric", month: "short" });
  return span === "quarter" ? `Week of ${day}` : day;
}

/** Return the hits of each edit by bin, the most frequent first; those of the rest are one series. */
export function seriesOf(hits: HourOfHits[], bins: Bin[]): Series[] {
  const counts = new Map<string, number[]>();
  for (const { edit, hour, count } of hits) {
    const at = bins.filter((bin) => bin.start <= hour * 1000).length - 1;
    if (at < 0) continue;
    if (!counts.has(edit)) counts.set(edit, bins.map(() => 0));
    counts.get(edit)![at]! += count;
  }
  const all = [...counts].map(([edit, own]): Series => ({ edit, counts: own, total: sum(own) }));
  all.sort((one, other) => other.total - one.total || (one.edit! < other.edit! ? -1 : 1));
  if (all.length <= OWN + 1) return all;
  const rest = all.slice(OWN);
  const together = bins.map((_, i) => sum(rest.map((one) => one.counts[i]!)));
  return [...all.slice(0, OWN), { edit: null, counts: together, total: sum(together) }];
}

export function sum(numbers: number[]): number {
  return numbers.reduce((one, other) => one + other, 0);
}
