// Series over time, drawn by uPlot: colours of the theme, zoom by dragging and by keys, the same figures as a table for
// who does not see.

import uPlot from "uplot";
import { h, setText } from "./dom";
import { dateOf, secondsOf, timeOf } from "./format";

const known = (values: ArrayLike<number | null | undefined>): number =>
  Array.from(values).filter((it) => it !== null && it !== undefined).length;

/** Of the theme as it is now; a variable by itself would be read as it is written. */
function colour(name: string): string {
  const probe = h("i", { hidden: true });
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

export interface Series {
  label: string;
  /** Which of the theme's colours: `--NAME`. */
  colour: string;
  format(value: number | null | undefined): string;
  fill?: boolean;
  dashed?: boolean;
  /** Its values are another series' that goes on, so its legend would say the same twice. */
  continues?: boolean;
}

export type Columns = [number[], ...(number | null)[][]];

export interface Options {
  title: string;
  height: number;
  series: Series[];
  /** Charts of one key share their cursor and zoom. */
  together?: string;
  /** How an axis value reads. */
  axis?(value: number): string;
  /** Steps of the axis, where tens are not round. */
  steps?: number[];
  /** The chart below it tells the times. */
  timeless?: boolean;
  /** A value a minute: nothing is told by seconds, and few of them do not fill the whole width. */
  byMinute?: boolean;
}

const LEAST_ZOOM_S = 120;
const FEW_MINUTES_S = 600;
const together = new Map<string, Set<Chart>>();

export class Chart {
  readonly element: HTMLElement;
  /** The same as a table, to be placed where it does not come between. */
  readonly figures: HTMLDetailsElement;
  private plot: uPlot | null = null;
  private columns: Columns;
  private zoom: [number, number] | null = null;
  private readonly canvas: HTMLElement;
  private readonly legend: HTMLElement[];
  private readonly reset: HTMLButtonElement;
  private readonly table: HTMLTableSectionElement;
  private readonly observer: ResizeObserver;
  private hovered: number | null = null;

  constructor(private readonly options: Options) {
    this.columns = [[], ...options.series.map(() => [])];
    this.legend = [];
    const keys = h("div", { class: "legend", "aria-hidden": "true" });
    for (const series of options.series) {
      const value = h("b", {}, "");
      this.legend.push(value);
      if (series.continues) continue;
      const key = h("span", { class: "key" }, h("i", { class: `swatch c-${series.colour}` }), series.label, " ", value);
      keys.append(key);
    }
    this.reset = h("button", { type: "button", class: "small", hidden: true, onclick: () => this.show(null) }, "Whole period");
    this.canvas = h("div", {
      class: "plot", tabindex: "0", role: "img", "aria-label": options.title,
      onkeydown: (event: KeyboardEvent) => this.key(event),
    });
    this.table = h("tbody");
    const heads = options.series.filter((it) => !it.continues).map((it) => h("th", { scope: "col" }, it.label));
    this.figures = h("details", { class: "figures", ontoggle: () => this.tabulate() },
      h("summary", {}, `${options.title}: figures`),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${options.title}: figures` },
        h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Time"), ...heads)), this.table)));
    this.element = h("div", { class: "chart" },
      h("div", { class: "chart-head" }, keys, this.reset), this.canvas);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.canvas);
    document.addEventListener("themechange", this.redraw);
    if (options.together) {
      const others = together.get(options.together) ?? new Set();
      together.set(options.together, others.add(this));
    }
  }

  destroy(): void {
    this.observer.disconnect();
    document.removeEventListener("themechange", this.redraw);
    if (this.options.together) together.get(this.options.together)?.delete(this);
    this.plot?.destroy();
  }

  set(columns: Columns): void {
    this.columns = columns;
    if (!this.plot) this.draw();
    else this.plot.setData(columns as uPlot.AlignedData, false);
    this.scale();
    this.describe();
    this.tell(this.hovered);
    if (this.figures.open) this.tabulate();
  }

  /** Zooms this chart and those beside it. */
  private show(zoom: [number, number] | null): void {
    const all = this.options.together ? together.get(this.options.together) : undefined;
    for (const chart of all ?? [this]) {
      chart.zoom = zoom;
      chart.reset.hidden = zoom === null;
      chart.scale();
    }
  }

  private whole(): [number, number] {
    const times = this.columns[0];
    const first = times[0] ?? 0;
    const last = times[times.length - 1] ?? 0;
    return this.options.byMinute ? [Math.min(first, last - FEW_MINUTES_S), last] : [first, Math.max(last, first + 60)];
  }

  private scale(): void {
    const [min, max] = this.zoom ?? this.whole();
    this.plot?.setScale("x", { min, max });
  }

  private key(event: KeyboardEvent): void {
    const [first, last] = this.whole();
    const [from, to] = this.zoom ?? [first, last];
    const width = to - from;
    const bounded = (start: number, span: number): void => {
      span = Math.min(Math.max(span, LEAST_ZOOM_S), last - first);
      start = Math.min(Math.max(start, first), last - span);
      this.show(span >= last - first ? null : [start, start + span]);
    };
    switch (event.key) {
      case "+": case "=": bounded(from + width / 4, width / 2); break;
      case "-": bounded(from - width / 2, width * 2); break;
      case "ArrowLeft": bounded(from - width / 8, width); break;
      case "ArrowRight": bounded(from + width / 8, width); break;
      case "Escape": case "0": this.show(null); break;
      default: return;
    }
    event.preventDefault();
  }

  private readonly redraw = (): void => {
    this.plot?.destroy();
    this.plot = null;
    this.draw();
    this.scale();
  };

  private draw(): void {
    const width = this.canvas.clientWidth;
    if (width === 0 || this.columns[0].length === 0) return;
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const line = { stroke: colour("line"), width: 1 };
    const axis = this.options.axis ?? ((value: number) => this.options.series[0]?.format(value) ?? String(value));
    const plot: uPlot.Options = {
      width,
      height: this.options.height,
      legend: { show: false },
      padding: [8, 34, this.options.timeless ? 8 : 0, 0],
      scales: { x: { time: true }, y: { range: (_plot, _min, max) => [0, max > 0 ? max * 1.08 : 1] } },
      cursor: {
        sync: this.options.together ? { key: this.options.together } : undefined,
        drag: { x: true, y: false, setScale: false },
        points: { size: 6 },
        y: false,
        bind: { dblclick: () => () => (this.show(null), null) },
      } as uPlot.Cursor,
      axes: [
        { show: !this.options.timeless, stroke: colour("muted"), font, size: 26, space: 92, grid: { show: false },
          ticks: { ...line, size: 4 }, values: (_plot, times) => times.map((time) => this.time()(time * 1000)) },
        { stroke: colour("muted"), font, size: 52, space: 30, grid: line, ticks: { show: false },
          ...(this.options.steps ? { incrs: this.options.steps } : {}), values: (_plot, values) => values.map((value) => axis(value)) },
      ],
      series: [
        {},
        ...this.options.series.map((it): uPlot.Series => ({
          label: it.label,
          stroke: colour(it.colour),
          width: it.dashed ? 1.25 : 1.75,
          ...(it.dashed ? { dash: [3, 3] } : {}),
          ...(it.fill ? { fill: `color-mix(in srgb, ${colour(it.colour)} 14%, transparent)` } : {}),
          // Of one or two values there is no line to speak of.
          points: { size: 7, show: (plot, index) => plot.data[0].length < 40 && known(plot.data[index] ?? []) < 3 },
        })),
      ],
      hooks: {
        setCursor: [(it) => this.tell(it.cursor.idx ?? null)],
        setSelect: [(it) => this.selected(it)],
      },
    };
    this.plot = new uPlot(plot, this.columns as uPlot.AlignedData, this.canvas);
  }

  private selected(plot: uPlot): void {
    if (plot.select.width > 4) {
      const from = plot.posToVal(plot.select.left, "x");
      const to = plot.posToVal(plot.select.left + plot.select.width, "x");
      if (to - from >= LEAST_ZOOM_S / 2) this.show([from, to]);
    }
    if (plot.select.width > 0) plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  }

  /** How times read, by how many there are of them. */
  private time(): (ms: number) => string {
    const [from, to] = this.zoom ?? this.whole();
    return to - from > 86_400 ? dateOf : to - from <= 600 && !this.options.byMinute ? secondsOf : timeOf;
  }

  private resize(): void {
    const width = this.canvas.clientWidth;
    if (!this.plot) {
      this.draw();
      this.scale();
    } else if (width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: this.options.height });
  }

  /** The values under the cursor, or else the newest. */
  private tell(index: number | null): void {
    this.hovered = index;
    this.options.series.forEach((series, at) => {
      const values = this.columns[at + 1] ?? [];
      let value = index === null ? undefined : values[index];
      if (index === null) value = values.findLast((it) => it !== null && it !== undefined);
      const value_ = this.legend[at];
      if (value_ && !series.continues) setText(value_, series.format(value));
    });
  }

  private describe(): void {
    const times = this.columns[0];
    const parts = this.options.series.flatMap((series, at) => {
      const values = (this.columns[at + 1] ?? []).filter((it): it is number => it !== null && it !== undefined);
      if (series.continues || values.length === 0) return [];
      // Not by spreading: a hundred thousand arguments are too many.
      const most = values.reduce((left, right) => Math.max(left, right));
      return [`${series.label}: now ${series.format(values[values.length - 1])}, most ${series.format(most)}`];
    });
    const since = times[0] === undefined ? "no figures yet" : `since ${timeOf(times[0] * 1000)}`;
    const keys = "Plus and minus zoom, arrows move, Escape shows the whole period.";
    this.canvas.setAttribute("aria-label", `${this.options.title}, ${since}. ${parts.join(". ")}. ${keys}`);
  }

  /** Newest first, as many as anybody reads. */
  private tabulate(): void {
    if (!this.figures.open) return;
    const rows: HTMLElement[] = [];
    const times = this.columns[0];
    for (let at = times.length - 1; at >= 0 && rows.length < 240; at -= 1) {
      const cells = this.options.series.flatMap((series, index) => {
        if (series.continues) return [];
        const values = this.columns.slice(1).filter((_, other) => other === index ||
          (this.options.series[other]?.continues && this.options.series[other]?.label === series.label));
        const value = values.map((it) => it[at]).find((it) => it !== null && it !== undefined);
        return [h("td", { class: "number" }, series.format(value))];
      });
      rows.push(h("tr", {}, h("th", { scope: "row" }, this.time()((times[at] ?? 0) * 1000)), ...cells));
    }
    this.table.replaceChildren(...rows);
  }
}
