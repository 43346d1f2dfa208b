// What programs ask by URL, from the server's own description of it: parameters to fill in, the line to copy, the answer.

import { h } from "./dom";
import { faultOf, touching, type Touch } from "./feed";
import { exports, Panel } from "./parts";

interface Parameter {
  name: string;
  required?: boolean;
  schema: { type?: unknown; format?: string; default?: unknown };
}

interface Operation {
  description?: string;
  summary?: string;
  parameters?: Parameter[];
}

type Paths = Record<string, { get?: Operation; post?: Operation; put?: Operation }>;

/** Addresses of the server's own, which nobody fills in here. */
const OWN: Record<string, string> = {
  "/api/sql": "Any SELECT, posted as text or JSON",
  "/api/subscribe": "The changes of a view as they happen, as server-sent events",
  "/api/watch": "Several answers over one connection, each again when it has changed, as server-sent events",
  "/api/{path}": "PUT keeps a query at an address, as the page for SQL does",
};

export function endpoints(main: HTMLElement, touched: (touch: Touch) => void): () => void {
  const list = h("div", { class: "grid" });
  main.replaceChildren(
    h("div", { class: "page-head" }, h("h1", {}, "Endpoints"),
      h("p", { class: "since" }, "Answers by URL, in JSON, CSV, Arrow and Parquet. As OpenAPI: ", h("a", { href: "/api" }, "/api"))),
    list);
  const draw = async (): Promise<void> => {
    try {
      const answer = await fetch("/api");
      if (!answer.ok) throw await faultOf(answer);
      const { paths } = (await answer.json()) as { paths: Paths };
      list.replaceChildren(...Object.entries(paths).map(([path, it]) => card(path, it, draw)));
    } catch (fault) {
      const panel = new Panel("Endpoints", "full");
      panel.say((fault as Error).message);
      list.replaceChildren(panel.element);
    }
  };
  void draw();
  return touching(touched);
}

function card(path: string, operations: Paths[string], again: () => Promise<void>): HTMLElement {
  const panel = new Panel(path, "half");
  panel.filled();
  panel.element.classList.add("endpoint");
  const { get, post, put } = operations;
  const own = OWN[path];
  if (!get || own) {
    panel.body.append(h("p", { class: "quiet" }, own ?? "Takes events"), sql((get ?? post ?? put)?.description));
    return panel.element;
  }
  const link = h("a", { class: "url" });
  const answer = h("pre", { class: "answer", tabindex: "0", hidden: true });
  let tools = exports(path);
  const url = (): string => {
    const given = inputs.flatMap(([name, input]) => (input.value === "" ? [] : [[name, input.value]]));
    const query = new URLSearchParams(given).toString();
    return query ? `${path}?${query}` : path;
  };
  const show = (): void => {
    link.textContent = url();
    link.href = url();
    const next = exports(url());
    tools.replaceWith(next);
    tools = next;
  };
  const inputs = (get.parameters ?? []).map((parameter): [string, HTMLInputElement] => [
    parameter.name,
    h("input", {
      placeholder: parameter.required ? "required" : String(parameter.schema.default ?? "NULL"),
      "aria-label": parameter.name, oninput: show, size: 10, autocomplete: "off", spellcheck: "false",
    }),
  ]);
  const run = async (event: Event): Promise<void> => {
    event.preventDefault();
    const response = await fetch(url()).catch(() => null);
    answer.hidden = false;
    if (!response) answer.textContent = "the server does not answer";
    else if (response.ok) {
      const rows = (await response.json()) as unknown[];
      const most = 20;
      answer.textContent = rows.slice(0, most).map((row) => JSON.stringify(row)).join("\n") +
        (rows.length > most ? `\n… ${rows.length - most} more` : "") || "no rows";
    } else answer.textContent = (await faultOf(response)).message;
  };
  const forget = async (): Promise<void> => {
    if (!window.confirm(`Drop the endpoint ${path}?`)) return;
    const response = await fetch(path, { method: "DELETE" });
    if (response.ok) await again();
    else panel.fault(await faultOf(response));
  };
  panel.tool(tools);
  panel.body.append(
    get.summary ? h("p", { class: "wrong" }, get.summary) : "",
    h("form", { class: "parameters", onsubmit: (event: Event) => void run(event) },
      ...inputs.map(([name, input]) => h("label", {}, name, " ", input)),
      h("button", { type: "submit", class: "small" }, "Ask"),
      h("button", { type: "button", class: "small quiet-button", onclick: () => void forget() }, "Drop")),
    link, sql(get.description), answer);
  show();
  return panel.element;
}

function sql(text: string | undefined): HTMLElement {
  return h("details", { class: "figures" }, h("summary", {}, "SQL"), h("pre", { class: "answer", tabindex: "0" }, text ?? ""));
}
