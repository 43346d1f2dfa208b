// What pages are put together from: panels, tiles, tables with bars, exports.

import { h, setText, setVariable, svg, type Child } from "./dom";
import type { Fault } from "./feed";
import { NONE } from "./format";

/** A titled part of a page, which says what it lacks where it has nothing. */
export class Panel {
  readonly element: HTMLElement;
  readonly body: HTMLElement;
  private readonly note: HTMLElement;
  private readonly head: HTMLElement;
  private tools: HTMLElement | null = null;

  constructor(title: string, span: string, ...body: Child[]) {
    const heading = h("h2", {}, title);
    this.note = h("p", { class: "note" });
    this.head = h("div", { class: "panel-head" }, heading);
    this.body = h("div", { class: "panel-body" }, ...body);
    this.element = h("section", { class: `panel ${span}`, "aria-label": title }, this.head, this.note, this.body);
    this.say("Waiting for figures");
  }

  tool(...tools: Child[]): this {
    this.head.append(...tools.filter((it): it is Node => it instanceof Node));
    return this;
  }

  /** Links to the same answer as a file. */
  export(path: string): this {
    const links = exports(path);
    if (this.tools) this.tools.replaceWith(links);
    else this.head.append(links);
    this.tools = links;
    return this;
  }

  /** Instead of figures. */
  say(text: string): void {
    setText(this.note, text);
    this.note.hidden = false;
    this.body.hidden = true;
  }

  filled(): void {
    this.note.hidden = true;
    this.body.hidden = false;
  }

  readonly fault = (fault: Fault): void => this.say(fault.hint ? `${fault.message}: ${fault.hint}` : fault.message);
}

export function exports(path: string): HTMLElement {
  const [stem, query] = path.split("?");
  const link = (suffix: string, label: string): HTMLElement =>
    h("a", { href: `${stem}.${suffix}${query ? `?${query}` : ""}`, download: true }, label);
  return menu("Export", link("csv", "CSV"), link("json", "JSON"), link("parquet", "Parquet"));
}

/** Opens by click or keys, and closes by Escape, or when the focus goes elsewhere. */
export function menu(label: string, ...items: HTMLElement[]): HTMLElement {
  const details: HTMLDetailsElement = h("details", {
    class: "menu",
    onkeydown: (event: KeyboardEvent) => {
      if (event.key !== "Escape" || !details.open) return;
      details.open = false;
      details.querySelector("summary")?.focus();
    },
    onfocusout: (event: FocusEvent) => {
      if (!details.contains(event.relatedTarget as Node | null)) details.open = false;
    },
    onclick: (event: MouseEvent) => {
      if (items.includes(event.target as HTMLElement)) details.open = false;
    },
  }, h("summary", {}, label), h("div", { class: "menu-items" }, ...items));
  return details;
}

export interface Figure {
  value: string;
  /** As a share, +0.12; null where there is nothing to compare with. */
  change?: number | null;
  /** What it is compared with, or what else is to be said. */
  note?: string;
  /** The same in full. */
  title?: string;
  line?: (number | null)[];
  bad?: boolean;
}

/** One figure, large, with the change against the period before. */
export class Tile {
  readonly element: HTMLElement;
  private readonly value = h("dd", { class: "value" }, NONE);
  private readonly change = h("dd", { class: "change" });
  private readonly spark = svg("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" });

  constructor(name: string, id: string, private readonly lessIsBetter = false) {
    this.element = h("dl", { class: "tile", id: `tile-${id}` }, h("dt", {}, name), this.value, this.change);
    this.element.append(this.spark);
  }

  set({ value, change, note, title, line, bad }: Figure): void {
    setText(this.value, value);
    this.element.classList.toggle("bad", bad === true);
    if (title) this.element.title = title;
    if (change === null || change === undefined || !Number.isFinite(change)) {
      setText(this.change, note ?? "");
      this.change.className = "change";
    } else {
      const percent = Math.round(change * 1000) / 10;
      const size = Math.abs(percent) >= 1000 ? ">1000" : Math.abs(percent).toFixed(Math.abs(percent) < 10 ? 1 : 0);
      const sign = percent > 0 ? "▲" : percent < 0 ? "▼" : "=";
      const good = percent === 0 ? "" : percent > 0 !== this.lessIsBetter ? "up" : "down";
      this.change.className = `change ${good}`;
      const spoken = percent > 0 ? "up" : percent < 0 ? "down" : "unchanged";
      const text = `${sign} ${size} %`;
      if (this.change.textContent !== `${spoken}${text}${note ?? ""}`) {
        this.change.replaceChildren(h("span", { class: "sr" }, spoken), h("b", {}, text), h("span", {}, note ?? ""));
      }
    }
    if (line) this.draw(line);
  }

  private draw(line: (number | null)[]): void {
    const known = line.filter((it): it is number => it !== null);
    if (known.length < 2) {
      this.spark.replaceChildren();
      return;
    }
    const most = known.reduce((left, right) => Math.max(left, right), 0) || 1;
    const least = known.reduce((left, right) => Math.min(left, right));
    // A line that hardly moves stays a line: it fills no more than it changes.
    const low = least > most * 0.5 ? Math.max(0, least - (most - least) - most * 0.05) : 0;
    const points = line.flatMap((value, at) => value === null ? [] :
      [`${((at / (line.length - 1)) * 100).toFixed(2)},${(22 - ((value - low) / (most - low || 1)) * 20).toFixed(2)}`]);
    const path = `M${points.join("L")}`;
    this.spark.replaceChildren(svg("path", { class: "area", d: `${path}L100,24L0,24Z` }), svg("path", { class: "stroke", d: path }));
  }
}

export interface Column<R> {
  head: string;
  text(row: R): Child;
  /** Numbers stand right; with a bar, its length as a share of the largest. */
  number?: boolean;
  bar?(row: R): number;
  /** A bar is full at this, where all are less. */
  full?: number;
}

/** Rows as a table, one of whose columns may be drawn as bars. */
export class Rows<R> {
  readonly element: HTMLElement;
  private readonly body = h("tbody");

  constructor(caption: string, private readonly columns: Column<R>[], className = "") {
    const heads = columns.map((it) => h("th", { scope: "col", class: it.number ? "number" : undefined }, it.head));
    this.element = h("div", { class: "scroll-x" }, h("table", { class: `rows ${className}` },
      h("caption", { class: "sr" }, caption), h("thead", {}, h("tr", {}, ...heads)), this.body));
  }

  set(rows: R[]): void {
    const most = this.columns.map((it) => (it.bar ? Math.max(...rows.map(it.bar), it.full ?? 0) : 0));
    this.body.replaceChildren(...rows.map((row) => h("tr", {}, ...this.columns.map((column, at) => {
      const cell = at === 0 ? h("th", { scope: "row" }, column.text(row)) : h("td", {}, column.text(row));
      if (column.number) cell.classList.add("number");
      if (column.bar) {
        cell.classList.add("barred");
        setVariable(cell, "--share", most[at] ? column.bar(row) / (most[at] ?? 1) : 0);
      }
      return cell;
    }))));
  }
}
