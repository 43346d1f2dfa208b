// SQL by hand: an editor, its answer as a table or drawn, exports, and a place for it among the endpoints.

import type { Page } from "./app";
import { h, setText } from "./dom";
import { Editor, type Name } from "./editor";
import { faultOf, touching, type Row } from "./feed";
import { count, age } from "./format";
import { menu, Panel } from "./parts";
import { Result } from "./result";

const KEPT = "thalweg.sql";
/** More than these a browser is slow to take in, and nobody to read; an export has all. */
const MOST = 100_000;
/** From when on somebody may want to stop it. */
const LONG_MS = 400;
const BEGUN = `-- Ctrl-Enter runs it, Ctrl-Space completes.
SELECT window_start, sum(events) AS events, sum(revenue) AS revenue
FROM events_per_minute
GROUP BY window_start
ORDER BY window_start`;

const COLUMNS = `SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns
WHERE table_schema <> 'information_schema' ORDER BY table_schema, table_name, ordinal_position`;

export const sql: Page = (main, touched) => {
  const status = h("p", { class: "quiet", role: "status" });
  const run = h("button", { type: "button", class: "primary", title: "Ctrl-Enter", onclick: () => (stops ? stop() : void execute()) }, "Run");
  const again = h("input", { type: "checkbox", onchange: () => repeat() });
  const result = new Result(MOST);
  const editor = new Editor(localStorage.getItem(KEPT) ?? BEGUN, () => void execute());
  const save = h("button", { type: "button", onclick: () => dialog.open() }, "Save as endpoint");
  const dialog = saving(() => editor.text, (path) => setText(status, `Kept at ${path}`));
  const schema = new Panel("Tables", "schema");
  let running: AbortController | null = null;
  /** What the button does: a statement that is over at once is run again, one that takes long is stopped. */
  let stops = false;
  let timer: number | undefined;

  main.replaceChildren(
    h("div", { class: "page-head" }, h("h1", {}, "SQL"), h("p", { class: "since" }, "Any SELECT over public, live, history and system")),
    h("div", { class: "workbench" }, schema.element,
      h("div", {}, editor.element,
        h("div", { class: "tools" }, run,
          h("label", { class: "quiet" }, again, " each second"), status,
          h("span", { class: "end" }), save,
          menu("Export", ...["csv", "json", "parquet", "arrow"].map((format) =>
            h("button", { type: "button", onclick: () => void download(format) }, format.toUpperCase())))),
        result.element)),
    dialog.element);

  const post = (format: string, signal?: AbortSignal, rows?: number): Promise<Response> =>
    fetch("/api/sql", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ sql: editor.text, format, rows }),
      ...(signal ? { signal } : {}),
    });

  const turn = (to: boolean): void => {
    stops = to;
    setText(run, to ? "Stop" : "Run");
  };

  /** The server hears that nobody waits any more, and ends the statement. */
  const stop = (): void => {
    running?.abort();
    running = null;
    turn(false);
    result.stopped();
    setText(status, "stopped");
  };

  const execute = async (): Promise<void> => {
    running?.abort();
    const mine = (running = new AbortController());
    localStorage.setItem(KEPT, editor.text);
    editor.mark(null);
    const long = window.setTimeout(() => turn(running === mine && !again.checked), LONG_MS);
    const begun = performance.now();
    result.asking();
    try {
      const answer = await post("arrow", mine.signal, MOST + 1);
      if (!answer.ok) {
        const fault = await faultOf(answer);
        editor.mark(fault.line && fault.column ? { line: fault.line, column: fault.column } : null);
        result.fault(fault);
        setText(status, "");
        again.checked = false;
      } else {
        const rows = result.show(new Uint8Array(await answer.arrayBuffer()));
        const many = rows > MOST ? `the first ${count(MOST)} rows` : `${count(rows)} ${rows === 1 ? "row" : "rows"}`;
        setText(status, `${many} in ${age(performance.now() - begun)}`);
      }
    } catch (error) {
      if (mine.signal.aborted) return;
      result.fault({ message: error instanceof TypeError ? "the server does not answer" : String(error) });
    } finally {
      window.clearTimeout(long);
      if (running === mine) turn(false);
    }
  };

  const repeat = (): void => {
    window.clearInterval(timer);
    if (!again.checked) return;
    let busy = false;
    timer = window.setInterval(() => {
      if (!again.checked) window.clearInterval(timer);
      if (busy || !again.checked) return;
      busy = true;
      void execute().finally(() => (busy = false));
    }, 1000);
  };

  const download = async (format: string): Promise<void> => {
    const answer = await post(format).catch(() => null);
    if (!answer?.ok) return result.fault(answer ? await faultOf(answer) : { message: "the server does not answer" });
    const url = URL.createObjectURL(await answer.blob());
    h("a", { href: url, download: `answer.${format}` }).click();
    window.setTimeout(() => URL.revokeObjectURL(url), 10_000);
  };

  fetch("/api/sql", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ sql: COLUMNS }) })
    .then(async (answer) => (answer.ok ? ((await answer.json()) as Row[]) : Promise.reject(await faultOf(answer))))
    .then((rows) => {
      schema.filled();
      schema.body.append(...tables(rows, (name) => editor.insert(name)));
      editor.learn(names(rows));
    }, (fault: { message: string }) => schema.say(fault.message));
  editor.focus();

  const leave = touching(touched);
  return () => {
    leave();
    running?.abort();
    window.clearInterval(timer);
    result.destroy();
  };
};

const full = (row: Row): string => (row.table_schema === "public" ? String(row.table_name) : `${row.table_schema}.${row.table_name}`);

function tables(rows: Row[], insert: (name: string) => void): HTMLElement[] {
  const order = ["public", "live", "history", "system"];
  const bySchema = Map.groupBy(rows, (row) => String(row.table_schema));
  const link = (name: string): HTMLElement =>
    h("button", { type: "button", title: `Insert ${name}`, onclick: () => insert(name) }, name);
  return order.filter((schema) => bySchema.has(schema)).map((schema) =>
    h("details", { open: schema === "public" }, h("summary", {}, h("b", {}, schema)),
      ...[...Map.groupBy(bySchema.get(schema) ?? [], full)].map(([name, columns]) =>
        h("details", {}, h("summary", {}, name), h("ul", {}, h("li", {}, link(name)),
          ...columns.map((row) => h("li", {}, link(String(row.column_name)), h("span", {}, shortType(String(row.data_type))))))))));
}

const shortType = (type: string): string => (type.length > 24 ? `${type.slice(0, 22)}…` : type);

function names(rows: Row[]): Name[] {
  const found = new Map<string, Name>();
  for (const row of rows) {
    found.set(full(row), { text: full(row), kind: "table" });
    const column = String(row.column_name);
    if (!found.has(column)) found.set(column, { text: column, kind: "column" });
  }
  return [...found.values()];
}

/** Asks for an address and parameters, and keeps the query there. */
function saving(text: () => string, saved: (path: string) => void): { element: HTMLElement; open(): void } {
  const path = h("input", { required: true, pattern: "/api/[a-z0-9_\\-\\/]+", placeholder: "/api/shop/busy", autocomplete: "off" });
  const parameters = h("input", { placeholder: "minutes INT DEFAULT 5, country STRING DEFAULT NULL", autocomplete: "off", spellcheck: "false" });
  const wrong = h("p", { class: "fault", role: "alert", hidden: true });
  const keep = async (event: Event): Promise<void> => {
    event.preventDefault();
    const answer = await fetch(path.value, {
      method: "PUT",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ sql: text(), parameters: parameters.value }),
    }).catch(() => null);
    if (answer?.ok) {
      element.close();
      return saved(path.value);
    }
    const fault = answer ? await faultOf(answer) : { message: "the server does not answer" };
    wrong.hidden = false;
    setText(wrong, [fault.message, fault.hint].filter(Boolean).join("\n"));
  };
  const element = h("dialog", { "aria-label": "Save as endpoint" }, h("h2", {}, "Save as endpoint"),
    h("p", { class: "quiet" }, "Programs then ask the query at this address, in JSON, CSV, Arrow or Parquet. $name in it stands for a parameter."),
    h("form", { onsubmit: (event: Event) => void keep(event) },
      h("label", {}, "Address", path), h("label", {}, "Parameters", parameters), wrong,
      h("div", { class: "tools" }, h("button", { type: "submit", class: "primary" }, "Save"),
        h("button", { type: "button", onclick: () => element.close() }, "Cancel"))));
  return {
    element,
    open: () => {
      wrong.hidden = true;
      element.showModal();
      path.focus();
    },
  };
}
