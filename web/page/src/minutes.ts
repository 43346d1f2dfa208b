// The minutes of a period and of the one before it, put together from what was asked once and what is pushed.
//
// A day is 1,440 rows that do not change: they are asked for when the page opens and when it has found the server again.
// What is pushed each second are the newest few, among them the one that is still running.

import { moment, timeOf } from "./format";
import { number, numberOrNull, type Row } from "./feed";

export interface Minute {
  at: number;
  events: number;
  sessions: number;
  views: number;
  carts: number;
  purchases: number;
  revenue: number;
}

export const MINUTE_MS = 60_000;

export class Minutes {
  private readonly known = new Map<number, Minute>();

  add(rows: Row[]): void {
    for (const row of rows) {
      const at = moment(row.window_start);
      if (at === null) continue;
      this.known.set(at, {
        at,
        events: number(row.events),
        sessions: number(row.sessions),
        views: number(row.page_views) + number(row.product_views),
        carts: number(row.carts),
        purchases: number(row.purchases),
        revenue: numberOrNull(row.revenue) ?? 0,
      });
    }
  }

  /** Of the last so many minutes, and of as many before; older ones are forgotten. */
  period(minutes: number): Period {
    const times = [...this.known.keys()].sort((left, right) => left - right);
    const newest = times[times.length - 1] ?? 0;
    for (const at of times) if (at <= newest - 2 * (minutes + 2) * MINUTE_MS) this.known.delete(at);
    const of = (from: number, to: number): Minute[] =>
      times.filter((at) => at > from && at <= to).flatMap((at) => this.known.get(at) ?? []);
    const start = newest - minutes * MINUTE_MS;
    // The running minute is no match for a whole one, so the change is told of minutes that are over. Where there are not
    // yet two periods of them, it is told of what there is.
    const over = of(0, newest - MINUTE_MS);
    const half = Math.min(minutes, Math.floor(over.length / 2));
    return {
      now: of(start, newest),
      recent: half > 0 ? over.slice(-half) : [],
      before: half > 0 ? over.slice(-2 * half, -half) : [],
    };
  }
}

export interface Period {
  /** With the running minute, the last one. */
  now: Minute[];
  recent: Minute[];
  before: Minute[];
}

type Measure = (minutes: Minute[]) => number | null;

export const sum = (field: Exclude<keyof Minute, "at">): Measure => (minutes) =>
  minutes.reduce((total, minute) => total + minute[field], 0);

export const quotient = (above: Exclude<keyof Minute, "at">, below: Exclude<keyof Minute, "at">): Measure => (minutes) => {
  const divisor = sum(below)(minutes) ?? 0;
  return divisor === 0 ? null : (sum(above)(minutes) ?? 0) / divisor;
};

export const mean = (field: Exclude<keyof Minute, "at">, over = 1): Measure => (minutes) =>
  minutes.length === 0 ? null : (sum(field)(minutes) ?? 0) / minutes.length / over;

export function change(measure: Measure, { recent, before }: Period): number | null {
  const [now, then] = [measure(recent), measure(before)];
  return before.length === 0 || now === null || then === null || then === 0 ? null : now / then - 1;
}

/** What the change is against: shortly, and in full. */
export function against({ before }: Period): [string, string] {
  const first = before[0];
  if (!first) return ["nothing before yet", "The change is told when two minutes are over"];
  const until = timeOf(first.at + before.length * MINUTE_MS);
  return [`vs ${before.length} min before`, `The last ${before.length} whole minutes against the ${before.length} before ${until}`];
}
