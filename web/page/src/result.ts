// The rows of an answer, read from Arrow so that a number is a number and a moment a moment: as a table, or drawn.

import { tableFromIPC, type Table } from "@uwdata/flechette";
import { Chart } from "./chart";
import { h, setText } from "./dom";
import type { Fault } from "./feed";
import { compact, count, secondsOf } from "./format";

/** More rows than these nobody reads, and a browser is slow to lay out; an export has all. */
const SHOWN = 1000;
const BARS = 60;
const TYPE = { int: 2, float: 3, bytes: 4, decimal: 7, date: 8, time: 9, timestamp: 10, interval: 11 };
const COLOURS = ["accent", "second", "third"];

interface Column {
  name: string;
  kind: "number" | "moment" | "other";
  type: string;
  values: unknown[];
  /** Of its whole numbers so many digits stand behind the point: of a decimal its scale, of a time of day those of a second. */
  digits: number;
}

export class Result {
  readonly element: HTMLElement;
  private readonly body = h("div", {});
  private readonly note = h("p", { class: "quiet" });
  private readonly views: HTMLInputElement[];
  private readonly axes = h("span", { class: "tools" });
  private columns: Column[] = [];
  private rows = 0;
  private chart: Chart | null = null;
  private chosen: { x: string; y: string } | null = null;
  /** Of the chart that is drawn: the same columns get new values, and it is not made again. */
  private drawn = "";

  /** `most`: as many rows, and one more, are asked for. */
  constructor(private readonly most: number) {
    const view = (value: string, label: string): [HTMLElement, HTMLInputElement] => {
      const input = h("input", { type: "radio", name: "view", value, checked: value === "table", onchange: () => this.draw() });
      return [h("label", {}, input, h("span", {}, label)), input];
    };
    const [table, chart] = [view("table", "Table"), view("chart", "Chart")];
    this.views = [table[1], chart[1]];
    this.element = h("section", { class: "panel result", "aria-label": "Answer" },
      h("div", { class: "panel-head" }, h("h2", {}, "Answer"), this.axes,
        h("fieldset", { class: "choice" }, h("legend", { class: "sr" }, "Shown as"), table[0], chart[0])),
      this.note, this.body);
    setText(this.note, "Nothing has been asked yet");
  }

  destroy(): void {
    this.chart?.destroy();
  }

  /** Before there is anything to show; what was shown stays until there is. */
  asking(): void {
    if (this.columns.length === 0) setText(this.note, "Asking …");
  }

  stopped(): void {
    if (this.columns.length === 0) setText(this.note, "");
  }

  fault(fault: Fault & { detail?: string; line?: number; column?: number }): void {
    this.clear();
    const place = fault.line ? `line ${fault.line}, column ${fault.column}: ` : "";
    setText(this.note, "");
    this.body.replaceChildren(h("p", { class: "fault", role: "alert" },
      [place + fault.message, fault.detail, fault.hint && `Hint: ${fault.hint}`].filter(Boolean).join("\n")));
  }

  /** Returns how many rows there are. */
  show(ipc: Uint8Array): number {
    const table = tableFromIPC(ipc, { useDate: false, useDecimalInt: true, useBigInt: true });
    this.columns = columnsOf(table);
    this.rows = table.numRows;
    this.draw();
    return this.rows;
  }

  /** One more than was asked for says that there are more. */
  private many(): string {
    return this.rows > this.most ? `more than ${count(this.most)}` : count(this.rows);
  }

  private clear(): void {
    this.chart?.destroy();
    this.chart = null;
    this.drawn = "";
    this.axes.replaceChildren();
  }

  private draw(): void {
    if (this.columns.length === 0) return;
    if (this.views[1]?.checked) this.drawChart();
    else {
      this.clear();
      this.drawTable();
    }
  }

  private drawTable(): void {
    setText(this.note, this.rows > SHOWN ? `The first ${count(SHOWN)} of ${this.many()} rows; an export has all` : "");
    const head = this.columns.map((it) =>
      h("th", { scope: "col", class: it.kind === "number" ? "number" : undefined }, it.name, h("small", {}, it.type)));
    const rows = Array.from({ length: Math.min(this.rows, SHOWN) }, (_, at) =>
      h("tr", {}, ...this.columns.map((it) => cell(it, it.values[at]))));
    this.body.replaceChildren(h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Rows" },
      h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...rows))));
  }

  private drawChart(): void {
    const numbers = this.columns.filter((it) => it.kind === "number");
    const x = this.columns.find((it) => it.name === this.chosen?.x) ?? this.columns.find((it) => it.kind === "moment") ??
      this.columns.find((it) => it.kind === "other") ?? this.columns[0];
    const first = numbers.find((it) => it.name === this.chosen?.y) ?? numbers.find((it) => it !== x);
    if (!x || !first) {
      this.clear();
      setText(this.note, "There is no column of numbers to draw");
      this.body.replaceChildren();
      return;
    }
    this.choices(x, first, numbers);
    if (x.kind === "other") this.bars(x, first);
    else this.lines(x, this.chosen?.y ? [first] : numbers.filter((it) => it !== x).slice(0, 3));
  }

  private choices(x: Column, y: Column, numbers: Column[]): void {
    const select = (label: string, from: Column[], now: Column, set: (name: string) => void): HTMLElement =>
      h("label", { class: "quiet" }, `${label} `, h("select", { class: "small", onchange: (event: Event) => {
        set((event.target as HTMLSelectElement).value);
        this.draw();
      } }, ...from.map((it) => h("option", { selected: it === now }, it.name))));
    // Not while somebody has it open.
    if (this.axes.contains(document.activeElement)) return;
    this.axes.replaceChildren(
      select("by", this.columns, x, (name) => (this.chosen = { x: name, y: y.name })),
      select("of", numbers, y, (name) => (this.chosen = { x: x.name, y: name })));
  }

  private bars(x: Column, y: Column): void {
    this.chart?.destroy();
    this.chart = null;
    this.drawn = "";
    const rows = Array.from({ length: Math.min(this.rows, BARS) }, (_, at): [string, number] =>
      [x.values[at] === null ? "NULL" : text(x, x.values[at]), figure(y, at) ?? 0]);
    const most = rows.reduce((all, [, value]) => Math.max(all, Math.abs(value)), 0) || 1;
    setText(this.note, this.rows > BARS ? `The first ${BARS} of ${this.many()} rows` : "");
    this.body.replaceChildren(h("ul", { class: "bars" }, ...rows.map(([name, value]) => {
      const bar = h("i", {});
      bar.style.setProperty("--share", String(Math.abs(value) / most));
      return h("li", {}, h("span", {}, name), bar, h("span", { class: "number" }, compact(value)));
    })));
  }

  private lines(x: Column, ys: Column[]): void {
    const order = Array.from({ length: this.rows }, (_, at) => at).filter((at) => x.values[at] !== null);
    const at = (row: number): number => (x.kind === "moment" ? Number(x.values[row]) / 1000 : (figure(x, row) ?? 0));
    order.sort((left, right) => at(left) - at(right));
    const names = [x.name, ...ys.map((it) => it.name)].join("\n");
    setText(this.note, "");
    if (this.drawn !== names || !this.chart) {
      this.chart?.destroy();
      this.chart = new Chart({
        title: `${ys.map((it) => it.name).join(", ")} by ${x.name}`, height: 320, axis: compact,
        series: ys.map((it, index) => ({ label: it.name, colour: COLOURS[index] ?? "accent", format: compact, fill: ys.length === 1 })),
      });
      this.drawn = names;
      this.body.replaceChildren(this.chart.element, this.chart.figures);
    }
    this.chart.set([order.map(at), ...ys.map((it) => order.map((row) => figure(it, row)))]);
  }
}

function columnsOf(table: Table): Column[] {
  return table.schema.fields.map((field, at): Column => {
    const id = field.type.typeId as number;
    const kind = id === TYPE.int || id === TYPE.float || id === TYPE.decimal ? "number"
      : id === TYPE.timestamp || id === TYPE.date ? "moment" : "other";
    const { scale, unit } = field.type as { scale?: number; unit?: number };
    // Seconds, milliseconds, … of a time of day.
    const digits = id === TYPE.decimal ? (scale ?? 0) : id === TYPE.time ? 3 * (unit ?? 0) : 0;
    return { name: field.name, kind, type: typeName(id), values: [...(table.getChildAt(at)?.toArray() ?? [])], digits };
  });
}

function typeName(id: number): string {
  const names: Record<number, string> = {
    2: "integer", 3: "real", 4: "bytes", 5: "text", 6: "boolean", 7: "decimal", 8: "date", 9: "time", 10: "moment", 11: "interval",
    12: "list", 13: "struct", 15: "bytes", 19: "bytes", 20: "text", 23: "bytes",
    24: "text",
  };
  return names[id] ?? "";
}

/** To be drawn: as near as a number of the browser's comes to it. */
function figure(column: Column, row: number): number | null {
  const value = column.values[row];
  return value === null || value === undefined ? null : Number(value) / 10 ** column.digits;
}

function text(column: Column, value: unknown): string {
  if (column.kind === "moment") {
    const iso = new Date(Number(value)).toISOString();
    return column.type === "date" ? iso.slice(0, 10) : iso.replace("T", " ").replace(/\.000Z$|Z$/, "");
  }
  // Sums of prices end in …99999998; the last digits of a double tell nobody anything.
  if (column.type === "real") return String(Number(Number(value).toPrecision(14)));
  if (column.type === "decimal") return withPoint(BigInt(value as bigint | number), column.digits);
  if (column.type === "time") return timeOfDay(Number(value) / 10 ** column.digits);
  if (column.type === "interval") return interval(value as Float64Array);
  if (value instanceof Uint8Array) return [...value].map((it) => it.toString(16).padStart(2, "0")).join("");
  if (typeof value === "object" && value !== null) {
    return JSON.stringify(value, (_, it: unknown) =>
      typeof it === "bigint" ? Number(it) : ArrayBuffer.isView(it) ? Array.from(it as unknown as Iterable<unknown>) : it);
  }
  return String(value);
}

function withPoint(units: bigint, scale: number): string {
  const digits = String(units < 0n ? -units : units).padStart(scale + 1, "0");
  const point = digits.length - scale;
  return (units < 0n ? "-" : "") + digits.slice(0, point) + (scale > 0 ? `.${digits.slice(point)}` : "");
}

/** "10:00:00", and what there is of a second. */
function timeOfDay(seconds: number): string {
  const two = (of: number): string => String(Math.trunc(of)).padStart(2, "0");
  const rest = (seconds % 60).toFixed(6).padStart(9, "0").replace(/\.?0+$/, "");
  return `${two(seconds / 3600)}:${two((seconds / 60) % 60)}:${rest.padStart(2, "0")}`;
}

/** Of months, days and nanoseconds. */
function interval([months = 0, days = 0, nanos = 0]: Float64Array): string {
  const named = [[months, "mon"], [days, "d"]].filter(([many]) => many !== 0).map((it) => it.join(" "));
  const time = `${nanos < 0 ? "-" : ""}${timeOfDay(Math.abs(nanos) / 1e9)}`;
  return (nanos !== 0 || named.length === 0 ? [...named, time] : named).join(" ");
}

function cell(column: Column, value: unknown): HTMLElement {
  if (value === null || value === undefined) return h("td", { class: column.kind === "number" ? "number null" : "null" }, "NULL");
  const shown = text(column, value);
  const title = column.kind === "moment" ? `${secondsOf(Number(value))} here` : shown.length > 40 ? shown : undefined;
  return h("td", { class: column.kind === "number" ? "number" : undefined, title }, shown);
}
