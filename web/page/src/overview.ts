// The shop: what comes in, what it brings, and what wants looking at.

import { Chart, type Columns } from "./chart";
import { h, setText } from "./dom";
import { ask, Feed, number, numberOrNull, type Fault, type Row, type Touch, type Watched } from "./feed";
import * as format from "./format";
import { against, change, mean, Minutes, MINUTE_MS, quotient, sum, type Minute, type Period } from "./minutes";
import { Panel, Rows, Tile } from "./parts";

const PERIODS: [number, string][] = [[15, "15 min"], [60, "1 h"], [360, "6 h"], [1440, "24 h"]];
const KEPT = "thalweg.period";

const measures = [
  { id: "revenue", name: "Revenue", of: sum("revenue"), text: format.money, line: (it: Minute) => it.revenue },
  { id: "orders", name: "Orders", of: sum("purchases"), text: format.exact, line: (it: Minute) => it.purchases },
  { id: "value", name: "Order value", of: quotient("revenue", "purchases"), text: format.price,
    line: (it: Minute) => (it.purchases ? it.revenue / it.purchases : null) },
  { id: "conversion", name: "Conversion", of: quotient("purchases", "views"), text: format.share,
    line: (it: Minute) => (it.views ? it.purchases / it.views : null) },
  { id: "carts", name: "Added to cart", of: sum("carts"), text: format.exact, line: (it: Minute) => it.carts },
  { id: "sessions", name: "Sessions a minute", of: mean("sessions"), text: format.exact, line: (it: Minute) => it.sessions,
    over: true },
  { id: "events", name: "Events a second", of: mean("events", 60), text: format.rate, line: (it: Minute) => it.events / 60,
    over: true },
];

const REFUSED = `SELECT reason, sum(records) AS records, max(timestamp) AS newest FROM system.rejected_records
WHERE timestamp >= now() - INTERVAL '1 hour' GROUP BY reason ORDER BY records DESC, reason LIMIT 5`;
const LATE = `SELECT view, late_rows, failed_rows FROM system.views ORDER BY late_rows DESC, view`;
const STREAMS = `SELECT stream, records, rejected FROM system.streams ORDER BY stream`;

/** Draws the page; returns what ends it. */
export function overview(main: HTMLElement, touched: (touch: Touch) => void): () => void {
  const stored = Number(localStorage.getItem(KEPT));
  let period = PERIODS.some(([minutes]) => minutes === stored) ? stored : 15;
  let minutes = new Minutes();
  let feed: Feed | null = null;

  const tiles = measures.map((it) => new Tile(it.name, it.id));
  const revenue = chart("Revenue", 150, [["Revenue a minute", "accent", format.money]], true);
  const traffic = chart("Traffic", 124, [["Events a minute", "second", format.count]], true);
  const steps = chart("Sessions, carts, orders", 148,
    [["Sessions", "third", format.count], ["Carts", "second", format.count], ["Orders", "accent", format.count]], false);
  const charts = [revenue, traffic, steps];
  const series = new Panel("Revenue and traffic by minute", "wide", ...charts.map((it) => it.element),
    h("div", { class: "beside" }, ...charts.map((it) => it.figures)));
  const funnel = funnelPanel();
  const trending = listPanel("Trending products", "third", [
    { head: "Product", text: (row) => format.text(row.product_id), bar: (row) => number(row.views) + 3 * number(row.carts) },
    { head: "Views", text: (row) => format.count(number(row.views)), number: true },
    { head: "Carts", text: (row) => format.count(number(row.carts)), number: true },
  ]);
  const geography = listPanel("Geography", "third", [
    { head: "Country", text: (row) => format.country(row.country), bar: (row) => number(row.revenue) },
    { head: "Events", text: (row) => format.compact(number(row.events)), number: true },
    { head: "Revenue", text: (row) => format.money(number(row.revenue)), number: true },
  ]);
  const campaigns = listPanel("Campaigns", "third", trafficColumns("Campaign", (row) => format.text(row.campaign)));
  const devices = listPanel("Devices", "third", trafficColumns("Device", (row) =>
    `${format.text(row.device_type)}${row.os ? `, ${row.os}` : ""}`));
  const alerts = alertPanel();
  const own = ownPanel();
  const refused = refusedPanel();
  const late = latePanel();

  const choose = (chosen: number): void => {
    period = chosen;
    localStorage.setItem(KEPT, String(chosen));
    minutes = new Minutes();
    watch();
  };
  const periods = h("fieldset", { class: "choice" }, h("legend", { class: "sr" }, "Period"),
    ...PERIODS.map(([value, label]) => h("label", {},
      h("input", { type: "radio", name: "period", value, checked: value === period, onchange: () => choose(value) }),
      h("span", {}, label))));
  const since = h("p", { class: "since" });

  main.replaceChildren(
    h("div", { class: "page-head" }, h("h1", {}, "Shop"), since, periods),
    h("div", { class: "tiles" }, ...tiles.map((tile) => tile.element)),
    h("div", { class: "grid" }, series.element,
      h("div", { class: "narrow stack" }, funnel.panel.element, own.panel.element, alerts.panel.element), trending.panel.element, geography.panel.element,
      campaigns.panel.element, devices.panel.element, refused.panel.element, late.panel.element));

  const draw = (): void => {
    const all = minutes.period(period);
    const newest = all.now[all.now.length - 1];
    if (!newest) return;
    series.filled();
    const [note, title] = against(all);
    measures.forEach((measure, at) => {
      // A mean of minutes is of those that are over; a sum has what came in this second.
      const counted = measure.over ? all.now.slice(0, -1) : all.now;
      tiles[at]?.set({
        value: measure.text(measure.of(counted.length ? counted : all.now)),
        change: change(measure.of, all),
        note,
        title,
        line: all.now.slice(0, -1).map(measure.line),
      });
    });
    const first = all.now[0];
    steps.set(columns(all, (it) => it.sessions, (it) => it.carts, (it) => it.purchases));
    setText(since, `${format.timeOf(first?.at ?? newest.at)} to now, this minute included`);
    revenue.set(columns(all, (it) => it.revenue));
    traffic.set(columns(all, (it) => it.events));
  };

  const watch = (): void => {
    feed?.close();
    const within = `minutes=${period}`;
    const list = (what: string, panel: { panel: Panel; set(rows: Row[]): void }, link = true): Watched => {
      if (link) panel.panel.export(what);
      return { what, rows: (rows) => panel.set(rows), fault: panel.panel.fault };
    };
    series.export(`/api/metrics/history?${within}`);
    const missing = (fault: Fault): void => {
      series.fault(fault);
      tiles.forEach((tile) => tile.set({ value: format.NONE, note: "not counted here" }));
    };
    const watched: Record<string, Watched> = {
      live: { what: "/api/metrics/live?minutes=5", rows: (rows) => (minutes.add(rows), draw()), fault: missing },
      funnel: list(`/api/funnel?${within}`, funnel),
      trending: list("/api/products/trending?top=8", trending),
      geography: list(`/api/geography?${within}`, geography),
      campaigns: list(`/api/traffic/campaigns?${within}`, campaigns),
      devices: list(`/api/traffic/devices?${within}`, devices),
      alerts: list(`/api/alerts?minutes=${ALERT_MINUTES}`, alerts),
      // The demo's alone; elsewhere there is no such endpoint, and no such panel.
      own: { what: "/api/shop/clicks", rows: own.set, fault: () => (own.panel.element.hidden = true) },
      streams: { what: STREAMS, rows: refused.streams, fault: refused.panel.fault },
      refused: { what: REFUSED, rows: refused.reasons, fault: refused.panel.fault },
      late: { what: LATE, rows: late.set, fault: late.panel.fault },
    };
    const asked = minutes;
    const before = (): void => {
      // Twice the period, for there is one to compare with.
      ask(`/api/metrics/history?minutes=${2 * period + 3}`).then((rows) => {
        if (asked !== minutes) return;
        minutes.add(rows);
        draw();
      }, (fault: Fault | Error) => {
        // Touch was lost meanwhile: the figures stay, and whoever finds the server again asks anew.
        if (!(fault instanceof Error)) missing(fault);
      });
    };
    feed = new Feed(watched, before, touched);
  };
  watch();

  return () => {
    feed?.close();
    charts.forEach((it) => it.destroy());
  };
}

type Lines = [label: string, colour: string, format: (value: number | null | undefined) => string][];

/** Each line twice: the minutes that are over, and dashed what leads to the running one. */
function chart(title: string, height: number, lines: Lines, timeless: boolean): Chart {
  const series = lines.flatMap(([label, colour, format]) => [
    { label, colour, format, fill: lines.length === 1 },
    { label, colour, format, dashed: true, continues: true },
  ]);
  return new Chart({ title, height, series, timeless, byMinute: true, together: "minutes", axis: format.compact });
}

/** For each measure the minutes that are over, and dashed what leads to the running one. */
function columns({ now }: Period, ...measures: ((minute: Minute) => number)[]): Columns {
  const times: number[] = [];
  const values: (number | null)[][] = measures.flatMap(() => [[], []]);
  const last = now.length - 1;
  now.forEach((minute, at) => {
    const gap = at > 0 && minute.at - (now[at - 1]?.at ?? 0) > MINUTE_MS;
    if (gap) {
      // Minutes without an event are no line between those beside them.
      times.push(((now[at - 1]?.at ?? 0) + MINUTE_MS) / 1000);
      values.forEach((column) => column.push(null));
    }
    times.push(minute.at / 1000);
    measures.forEach((measure, index) => {
      values[2 * index]?.push(at < last || last === 0 ? measure(minute) : null);
      values[2 * index + 1]?.push(at >= last - 1 ? measure(minute) : null);
    });
  });
  return [times, ...values];
}

type List = { panel: Panel; set(rows: Row[]): void };

function listPanel(title: string, span: string, columns: ConstructorParameters<typeof Rows<Row>>[1]): List {
  const table = new Rows<Row>(title, columns);
  const panel = new Panel(title, span, table.element);
  const set = (rows: Row[]): void => {
    if (rows.length === 0) return panel.say("Nothing in this period yet");
    panel.filled();
    table.set(rows.slice(0, 8));
  };
  return { panel, set };
}

function trafficColumns(head: string, name: (row: Row) => string): ConstructorParameters<typeof Rows<Row>>[1] {
  return [
    { head, text: name, bar: (row) => number(row.events) },
    { head: "Events", text: (row) => format.compact(number(row.events)), number: true },
    { head: "Orders", text: (row) => format.compact(number(row.purchases)), number: true },
  ];
}

const STEPS: Record<string, string> = { view: "Viewed", cart: "Into the cart", purchase: "Bought" };

function funnelPanel(): List {
  const steps = h("ol", { class: "funnel" });
  const panel = new Panel("Funnel", "", steps);
  const set = (rows: Row[]): void => {
    if (rows.every((row) => number(row.sessions) === 0)) return panel.say("Nothing in this period yet");
    panel.filled();
    let before: number | null = null;
    steps.replaceChildren(...rows.map((row) => {
      const sessions = number(row.sessions);
      const kept = before ? sessions / before : null;
      before = sessions;
      const bar = h("div", { class: "funnel-bar" });
      bar.style.setProperty("--share", String(numberOrNull(row.share) ?? 0));
      return h("li", {},
        h("div", { class: "funnel-step" }, h("span", {}, STEPS[String(row.step)] ?? String(row.step)), h("b", {}, format.compact(sessions))),
        bar,
        h("p", { class: "quiet" }, kept === null ? "sessions, added up by minute"
          : `${format.share(kept)} of the step before, ${format.share(numberOrNull(row.share))} of all`));
    }));
  };
  return { panel, set };
}

/** What was clicked at /shop, apart from the crowd. */
function ownPanel(): List {
  const rows = new Rows<Row>("Your own clicks", [
    { head: "Product", text: (row) => String(row.product_id).replace("SHOP-", "").toLowerCase() },
    { head: "Carts", text: (row) => format.count(number(row.carts)), number: true },
    { head: "Bought", text: (row) => format.count(number(row.bought)), number: true },
    { head: "Last", text: (row) => format.secondsOf(format.moment(row.last_click) ?? 0), number: true },
  ]);
  const hint = h("p", { class: "quiet" }, "Put something into the cart there, and it is counted here within a second.");
  const panel = new Panel("Your own clicks", "", rows.element, hint);
  panel.element.id = "own";
  panel.element.hidden = true;
  panel.tool(h("a", { href: "/shop", target: "_blank" }, "Open the shop"));
  const set = (given: Row[]): void => {
    panel.element.hidden = false;
    panel.filled();
    rows.element.hidden = given.length === 0;
    hint.hidden = given.length > 0;
    rows.set(given.slice(0, 5));
  };
  return { panel, set };
}

const ALERT_MINUTES = 5;
const ALERTS_SHOWN = 8;
const ALERTS: Record<string, [string, (value: number) => string]> = {
  traffic_high: ["Traffic is high", (value) => `${format.rate(value)} times the minute before`],
  traffic_low: ["Traffic is low", (value) => `${format.share(value)} of the minute before`],
  revenue_high: ["Revenue is high", (value) => `${format.rate(value)} times the minute before`],
  revenue_low: ["Revenue is low", (value) => `${format.share(value)} of the minute before`],
  conversion_low: ["Conversion is low", (value) => format.share(value)],
  product_rising: ["A product draws", (value) => `${format.rate(value)} times the views of the minute before`],
  abandonment_high: ["Carts are left", (value) => format.share(value)],
};

function alertPanel(): List {
  const list = h("ul", { class: "alerts" });
  const panel = new Panel("Alerts", "", list);
  // It scrolls where there are many.
  panel.body.tabIndex = 0;
  const set = (rows: Row[]): void => {
    panel.filled();
    if (rows.length === 0) {
      list.replaceChildren(h("li", { class: "calm" }, h("b", {}, "All quiet"), h("span", {}, `The last ${ALERT_MINUTES} minutes were within their bounds`)));
      return;
    }
    list.replaceChildren(...rows.slice(0, ALERTS_SHOWN).map((row) => {
      const [name, value] = ALERTS[String(row.alert)] ?? [String(row.alert), format.rate];
      const at = format.moment(row.at);
      return h("li", { class: String(row.level) },
        h("b", {}, row.product_id ? `${name}: ${row.product_id}` : name),
        h("span", {}, value(number(row.value)), at === null ? null : `, in the minute of ${format.timeOf(at)}`),
        h("em", {}, String(row.level)));
    }));
  };
  return { panel, set };
}

function refusedPanel(): { panel: Panel; streams(rows: Row[]): void; reasons(rows: Row[]): void } {
  const summary = h("p", {});
  const reasons = new Rows<Row>("Refused in the last hour, by reason", [
    { head: "In the last hour, because", text: (row) => format.text(row.reason) },
    { head: "Records", text: (row) => format.count(number(row.records)), number: true },
    { head: "Last", text: (row) => age(row.newest), number: true },
  ]);
  const panel = new Panel("Refused events", "half", summary, reasons.element);
  reasons.element.hidden = true;
  return {
    panel,
    streams: (rows) => {
      panel.filled();
      const total = (name: string): number => rows.reduce((all, row) => all + number(row[name]), 0);
      const [refused, records] = [total("rejected"), total("records")];
      setText(summary, refused === 0 ? `None of ${format.count(records)} records`
        : `${format.count(refused)} of ${format.count(records)} records, ${format.share(refused / records)}`);
    },
    reasons: (rows) => {
      reasons.element.hidden = rows.length === 0;
      reasons.set(rows);
    },
  };
}

function latePanel(): List {
  const views = new Rows<Row>("Late rows by view", [
    { head: "View", text: (row) => format.text(row.view), bar: (row) => number(row.late_rows), full: 10 },
    { head: "Rows late", text: (row) => format.count(number(row.late_rows)), number: true },
    { head: "Rows failed", text: (row) => format.count(number(row.failed_rows)), number: true },
  ]);
  const panel = new Panel("Late events", "half", views.element);
  const set = (rows: Row[]): void => {
    const some = rows.filter((row) => number(row.late_rows) + number(row.failed_rows) > 0);
    if (some.length === 0) return panel.say(`No row was late for any of ${rows.length} views`);
    panel.filled();
    views.set(some.slice(0, 6));
  };
  return { panel, set };
}

function age(at: unknown): string {
  const ms = format.moment(at);
  return ms === null ? format.NONE : `${format.age(Date.now() - ms)} ago`;
}
