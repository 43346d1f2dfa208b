// A text area that colours SQL and completes names. It stays a text area: selection, undo, spelling of screen readers and
// input methods are the browser's.

import { h } from "./dom";

export interface Name {
  text: string;
  kind: "table" | "column" | "function" | "keyword";
}

const KEYWORDS = `SELECT FROM WHERE GROUP BY HAVING ORDER LIMIT OFFSET DISTINCT AS AND OR NOT IN IS NULL LIKE BETWEEN CASE WHEN
THEN ELSE END JOIN LEFT RIGHT FULL CROSS ON USING UNION ALL EXISTS CAST INTERVAL ASC DESC WITH OVER PARTITION FILTER ROLLUP VALUES
SHOW STREAMS VIEWS TABLES ENDPOINTS DESCRIBE EXPLAIN ANALYZE TABLE TRUE FALSE INT BIGINT STRING DOUBLE DATE TIMESTAMP`.split(/\s+/);
const FUNCTIONS = `count sum avg min max approx_distinct approx_percentile_cont coalesce round floor ceil abs date_trunc date_part
date_bin to_timestamp now lower upper substr concat length replace split_part regexp_replace row_number rank lag lead first_value
last_value nullif greatest least stddev var_pop median array_agg string_agg bool_and bool_or`.split(/\s+/);
const OFFERED = 40;

const TOKENS = /(--[^\n]*|\/\*[\s\S]*?(?:\*\/|$))|('(?:[^']|'')*'?)|(\b\d+(?:\.\d+)?\b)|([A-Za-z_][A-Za-z0-9_]*)/g;

export class Editor {
  readonly element: HTMLElement;
  private readonly area: HTMLTextAreaElement;
  private readonly shown = h("pre", { "aria-hidden": "true" });
  private readonly offers = h("ul", { class: "offers", role: "listbox", id: "offers", "aria-label": "Completions", hidden: true });
  private names: Name[] = [
    ...KEYWORDS.map((text): Name => ({ text, kind: "keyword" })),
    ...FUNCTIONS.map((text): Name => ({ text, kind: "function" })),
  ];
  private offered: Name[] = [];
  private chosen = 0;
  private wrong: { line: number; column: number } | null = null;

  constructor(text: string, private readonly run: () => void) {
    this.area = h("textarea", {
      spellcheck: "false", autocapitalize: "off", autocomplete: "off", rows: 8, role: "combobox",
      "aria-label": "SQL. Control Enter runs it, Control Space completes",
      "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": "offers",
      oninput: () => (this.mark(null), this.complete(false)),
      onkeydown: (event: KeyboardEvent) => this.key(event),
      onblur: () => this.close(),
      onscroll: () => (this.shown.scrollTop = this.area.scrollTop),
    });
    this.area.value = text;
    this.element = h("div", { class: "editor" }, this.area, this.shown, this.offers);
    this.colour();
  }

  get text(): string {
    return this.area.value;
  }

  focus(): void {
    // A phone's keyboard would cover what there is to see.
    if (matchMedia("(hover: hover)").matches) this.area.focus({ preventScroll: true });
  }

  learn(names: Name[]): void {
    this.names = [...names, ...this.names];
  }

  insert(text: string): void {
    this.area.focus();
    this.area.setRangeText(text, this.area.selectionStart, this.area.selectionEnd, "end");
    this.colour();
  }

  /** Underlines the word at a place, counted from one. */
  mark(place: { line: number; column: number } | null): void {
    this.wrong = place;
    this.colour();
  }

  private colour(): void {
    const text = this.area.value;
    const parts: (string | Node)[] = [];
    const bad = this.wrong ? offset(text, this.wrong) : -1;
    let end = 0;
    for (const match of text.matchAll(TOKENS)) {
      const [word, comment, string, digits, name] = match;
      const keyword = name !== undefined && KEYWORDS.includes(name.toUpperCase());
      const kind = comment ? "c" : string ? "s" : digits ? "n" : keyword ? "k" : "";
      const wrong = bad >= match.index && bad < match.index + word.length;
      if (!kind && !wrong) continue;
      parts.push(text.slice(end, match.index), h("span", { class: `${kind}${wrong ? " e" : ""}` }, word));
      end = match.index + word.length;
    }
    // A last line that is empty has a height too.
    this.shown.replaceChildren(...parts, `${text.slice(end)}\n`);
    this.shown.scrollTop = this.area.scrollTop;
  }

  private key(event: KeyboardEvent): void {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.close();
      return this.run();
    }
    if (event.key === " " && event.ctrlKey) {
      event.preventDefault();
      return this.complete(true);
    }
    if (this.offers.hidden) return;
    switch (event.key) {
      case "ArrowDown": this.choose(this.chosen + 1); break;
      case "ArrowUp": this.choose(this.chosen - 1); break;
      case "Enter": case "Tab": this.take(this.chosen); break;
      case "Escape": this.close(); break;
      default: return;
    }
    event.preventDefault();
  }

  /** The word that is being written; a dot belongs to it. */
  private word(): [number, string] {
    const before = this.area.value.slice(0, this.area.selectionStart);
    const word = /[A-Za-z_][A-Za-z0-9_.]*$/.exec(before)?.[0] ?? "";
    return [before.length - word.length, word];
  }

  private complete(asked: boolean): void {
    const [start, word] = this.word();
    const lower = word.toLowerCase();
    // Two letters are meant to become a word; one is often the whole of it.
    if (!asked && word.length < 2) return this.close();
    const begins = (name: Name): boolean => name.text.toLowerCase().startsWith(lower);
    const within = (name: Name): boolean => !begins(name) && lower.length > 2 && name.text.toLowerCase().includes(lower);
    this.offered = [...this.names.filter(begins), ...this.names.filter(within)]
      .filter((name) => name.text.toLowerCase() !== lower).slice(0, OFFERED);
    if (this.offered.length === 0) return this.close();
    this.offers.replaceChildren(...this.offered.map((name, at) =>
      h("li", { role: "option", id: `offer-${at}`, onpointerdown: (event: Event) => (event.preventDefault(), this.take(at)) },
        name.text, h("span", {}, name.kind))));
    this.offers.hidden = false;
    this.area.setAttribute("aria-expanded", "true");
    this.place(start);
    this.choose(0);
  }

  /** Below the word: the coloured copy lies exactly under the text, so it knows where. */
  private place(start: number): void {
    const range = document.createRange();
    let left = start;
    const walker = document.createTreeWalker(this.shown, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const length = node.textContent?.length ?? 0;
      if (left <= length) {
        range.setStart(node, left);
        break;
      }
      left -= length;
    }
    const at = range.getBoundingClientRect();
    const own = this.element.getBoundingClientRect();
    const x = Math.min(at.left - own.left, own.width - 230);
    this.offers.style.left = `${Math.max(0, x)}px`;
    this.offers.style.top = `${at.bottom - own.top + 2}px`;
  }

  private choose(at: number): void {
    const items = this.offers.children;
    this.chosen = (at + items.length) % items.length;
    [...items].forEach((item, index) => item.setAttribute("aria-selected", String(index === this.chosen)));
    this.area.setAttribute("aria-activedescendant", `offer-${this.chosen}`);
    items[this.chosen]?.scrollIntoView({ block: "nearest" });
  }

  private take(at: number): void {
    const name = this.offered[at];
    const [start] = this.word();
    if (name) {
      const text = name.kind === "function" ? `${name.text}(` : name.text;
      this.area.setRangeText(text, start, this.area.selectionStart, "end");
    }
    this.close();
    this.colour();
  }

  private close(): void {
    this.offers.hidden = true;
    this.area.setAttribute("aria-expanded", "false");
    this.area.removeAttribute("aria-activedescendant");
  }
}

function offset(text: string, { line, column }: { line: number; column: number }): number {
  let start = 0;
  for (let at = 1; at < line; at += 1) start = text.indexOf("\n", start) + 1;
  return start + column - 1;
}
