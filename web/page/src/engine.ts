// The engine: how fast it reads, how far behind it is, what it has made durable and at what cost.

import { Chart } from "./chart";
import { h } from "./dom";
import { Feed, number, numberOrNull, type Row, type Touch, type Watched } from "./feed";
import * as format from "./format";
import { Panel, Rows, Tile } from "./parts";

const KEPT = 600;
const PROCESS_MS = 2_000;

const QUERIES = {
  streams: "SELECT * FROM system.streams ORDER BY stream",
  partitions: "SELECT * FROM system.partitions ORDER BY stream, partition",
  views: "SELECT * FROM system.views ORDER BY state_bytes DESC, view",
  commits: "SELECT epoch, committed_at, duration_micros, barrier_micros, close_micros, manifest_micros, delta_micros, " +
    "state_bytes, records FROM system.checkpoints ORDER BY epoch DESC LIMIT 120",
  store: "SELECT * FROM system.store",
};

export function engine(main: HTMLElement, touched: (touch: Touch) => void): () => void {
  const tile = {
    events: new Tile("Events a second", "throughput"),
    lag: new Tile("Lag", "lag"),
    frontier: new Tile("Frontier behind", "frontier"),
    commit: new Tile("Last commit", "commit"),
    store: new Tile("Store", "store"),
    state: new Tile("Open state", "state"),
    memory: new Tile("Memory", "memory"),
    cpu: new Tile("CPU", "cpu"),
  };
  const throughput = new Chart({
    title: "Events a second", height: 150, together: "engine", axis: format.compact,
    series: [{ label: "Events a second", colour: "accent", format: format.count, fill: true }],
  });
  const commits = new Chart({
    title: "What a commit takes", height: 150, together: "engine", axis: (value) => format.millis(value),
    series: [
      { label: "Whole", colour: "accent", format: format.millis },
      { label: "Closing", colour: "second", format: format.millis },
      { label: "Manifest", colour: "third", format: format.millis },
    ],
  });
  const memory = new Chart({
    title: "Resident memory", height: 150, axis: format.bytes, steps: Array.from({ length: 24 }, (_, power) => 2 ** (power + 20)),
    series: [{ label: "Resident", colour: "second", format: format.bytes, fill: true }],
  });
  const panels = {
    throughput: new Panel("Throughput", "third", throughput.element, throughput.figures),
    commits: new Panel("Commits", "third", commits.element, commits.figures),
    memory: new Panel("Memory", "third", memory.element, memory.figures),
  };
  const failures = h("ul", { class: "alerts" });
  const trouble = new Panel("Standing still", "full", failures);
  trouble.element.hidden = true;
  const streams = table("Streams", "", [
    { head: "Stream", text: (row) => String(row.stream) },
    { head: "Source", text: (row) => String(row.connector) },
    { head: "State", text: (row) => state(row.ended === true ? "ended" : row.state) },
    { head: "Read", text: (row) => format.count(number(row.records)), number: true },
    { head: "Refused", text: (row) => format.count(number(row.rejected)), number: true },
    { head: "Frontier", text: (row) => at(row.frontier), number: true },
  ]);
  const partitions = table("Lag by partition", "", [
    { head: "Partition", text: (row) => `${row.stream} ${row.partition}`, bar: (row) => number(row.lag), full: 1000 },
    { head: "Offset", text: (row) => format.count(numberOrNull(row.offset)), number: true },
    { head: "Lag", text: (row) => format.count(numberOrNull(row.lag)), number: true },
    { head: "Watermark", text: (row) => at(row.watermark), number: true },
    { head: "State", text: (row) => state(row.ended ? "ended" : row.idle_since ? "idle" : row.holds_frontier ? "holds the frontier" : "") },
  ]);
  const views = table("Views", "half", [
    { head: "View", text: (row) => String(row.view), bar: (row) => number(row.state_bytes) },
    { head: "State", text: (row) => format.bytes(number(row.state_bytes)), number: true },
    { head: "Open", text: (row) => format.count(number(row.open_windows)), number: true },
    { head: "History", text: (row) => format.compact(number(row.history_rows) + number(row.tail_rows)), number: true },
    { head: "Late", text: (row) => format.count(number(row.late_rows)), number: true },
    { head: "Closed through", text: (row) => at(row.closed_through), number: true },
  ]);
  main.replaceChildren(
    h("div", { class: "page-head" }, h("h1", {}, "Engine"), h("p", { class: "since" }, "What the job knows of itself: system.*")),
    h("div", { class: "tiles" }, ...Object.values(tile).map((it) => it.element)),
    h("div", { class: "grid" }, trouble.element, ...Object.values(panels).map((it) => it.element),
      h("div", { class: "half stack" }, streams.panel.element, partitions.panel.element), views.panel.element));

  const problems: Record<string, HTMLElement[]> = {};
  const failed = (kind: string, rows: Row[]): void => {
    problems[kind] = rows.filter((row) => row.state === "failed" || row.state === "away").map((row) =>
      h("li", { class: "critical" }, h("b", {}, `${kind} ${row.stream && kind === "Stream" ? row.stream : row.view ?? row.store}`),
        h("span", {}, format.text(row.reason ?? row.last_error)), h("em", {}, String(row.state))));
    tell();
  };
  const tell = (): void => {
    const all = Object.values(problems).flat();
    trouble.element.hidden = all.length === 0;
    if (all.length > 0) trouble.filled();
    failures.replaceChildren(...all);
  };

  const watched: Record<string, Watched> = {
    streams: { what: QUERIES.streams, fault: streams.panel.fault, rows: (rows) => {
      streams.set(rows);
      failed("Stream", rows);
      const behind = rows.map((row) => format.moment(row.frontier)).filter((it): it is number => it !== null);
      const oldest = behind.length ? Date.now() - Math.min(...behind) : null;
      tile.frontier.set({ value: format.age(oldest), note: "the clock" });
    } },
    partitions: { what: QUERIES.partitions, fault: partitions.panel.fault, rows: (rows) => {
      partitions.set(rows);
      const lag = rows.reduce((all, row) => all + number(row.lag), 0);
      tile.lag.set({ value: format.compact(lag), note: `records, in ${rows.length} partitions` });
    } },
    views: { what: QUERIES.views, fault: views.panel.fault, rows: (rows) => {
      views.set(rows);
      failed("View", rows);
      const bytes = rows.reduce((all, row) => all + number(row.state_bytes), 0);
      const open = rows.reduce((all, row) => all + number(row.open_windows), 0);
      tile.state.set({ value: format.bytes(bytes), note: `${format.compact(open)} windows, ${rows.length} views` });
    } },
    commits: { what: QUERIES.commits, fault: panels.commits.fault, rows: (rows) => {
      const oldestFirst = rows.toReversed();
      const times = oldestFirst.map((row) => (format.moment(row.committed_at) ?? 0) / 1000);
      const rate = oldestFirst.map((row, index) => {
        const seconds = (times[index] ?? 0) - (times[index - 1] ?? 0);
        return index === 0 || seconds <= 0 ? null : number(row.records) / seconds;
      });
      const millis = (name: string): number[] => oldestFirst.map((row) => number(row[name]) / 1000);
      const last = rows[0];
      if (!last) return;
      panels.throughput.filled();
      panels.commits.filled();
      throughput.set([times, rate]);
      commits.set([times, millis("duration_micros"), millis("close_micros"), millis("manifest_micros")]);
      const latest = rate.slice(-5).filter((it): it is number => it !== null);
      const mean = latest.reduce((all, it) => all + it, 0) / latest.length;
      tile.events.set({ value: format.compact(latest.length ? mean : null), note: "over five commits", line: rate });
      tile.commit.set({
        value: format.millis(number(last.duration_micros) / 1000),
        note: `epoch ${format.count(number(last.epoch))}`,
        line: millis("duration_micros"),
      });
    } },
    store: { what: QUERIES.store, fault: (fault) => tile.store.set({ value: "unknown", note: fault.message, bad: true }), rows: (rows) => {
      const store = rows[0];
      if (!store) return;
      failed("Store", rows);
      const away = store.state === "away";
      tile.store.set({ value: String(store.state), bad: away, note: `${format.count(number(store.retries))} requests made again` });
    } },
  };

  const resident: [number[], number[]] = [[], []];
  let cpuBefore: [number, number] | null = null;
  const process = async (): Promise<void> => {
    const answer = await fetch("/metrics").catch(() => null);
    if (!answer?.ok) return;
    const text = await answer.text();
    const value = (name: string): number => Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1] ?? NaN);
    const [now, bytes, cpu] = [Date.now() / 1000, value("thalweg_process_resident_bytes"), value("thalweg_process_cpu_seconds_total")];
    if (Number.isFinite(bytes)) {
      resident[0].push(now);
      resident[1].push(bytes);
      if (resident[0].length > KEPT) resident.forEach((column) => column.shift());
      panels.memory.filled();
      memory.set(resident);
      tile.memory.set({ value: format.bytes(bytes), note: "resident", line: resident[1] });
    }
    // Of each stream whose events wait on disk.
    const waiting = new Map([...text.matchAll(/^thalweg_spool_records\{stream="(.*)"\} (\S+)$/gm)].map((it) => [it[1], Number(it[2])]));
    problems.Spool = [...text.matchAll(/^thalweg_spool_kafka_away\{stream="(.*)"\} 1$/gm)].map((it) =>
      h("li", { class: "warning" }, h("b", {}, `Kafka, for stream ${it[1]}`),
        h("span", {}, `${format.count(waiting.get(it[1]) ?? 0)} events wait in the spool, and go on when it is back`), h("em", {}, "away")));
    tell();
    const used = cpuBefore ? (cpu - cpuBefore[1]) / (now - cpuBefore[0]) : NaN;
    tile.cpu.set({ value: format.share(used), note: `of a core, ${format.count(value("thalweg_query_running"))} queries run` });
    cpuBefore = [now, cpu];
  };
  void process();
  const timer = window.setInterval(() => void process(), PROCESS_MS);
  const feed = new Feed(watched, () => undefined, touched);

  return () => {
    feed.close();
    window.clearInterval(timer);
    [throughput, commits, memory].forEach((chart) => chart.destroy());
  };
}

function table(title: string, span: string, columns: ConstructorParameters<typeof Rows<Row>>[1]): { panel: Panel; set(rows: Row[]): void } {
  const rows = new Rows<Row>(title, columns);
  const panel = new Panel(title, span, rows.element);
  return {
    panel,
    set: (given) => {
      if (given.length === 0) return panel.say("There is none");
      panel.filled();
      rows.set(given);
    },
  };
}

function state(name: unknown): HTMLElement {
  return h("span", { class: `state s-${String(name).split(" ")[0]}` }, String(name));
}

function at(value: unknown): string {
  const ms = format.moment(value);
  return ms === null ? format.NONE : format.secondsOf(ms);
}
