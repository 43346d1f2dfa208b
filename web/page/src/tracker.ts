// A shop's page loads this one file, and its visits arrive as events:
//
//   <script src="https://thalweg.example/tracker.js" data-to="/api/events" defer></script>
//   <button data-track="add_to_cart" data-product-id="P-1" data-price="9.50" data-quantity="1">Add to cart</button>
//
// It keeps nothing and sends nothing where a browser asks not to be tracked, nor before consent where that is required.

type Fields = Record<string, unknown>;

const own = document.currentScript as HTMLScriptElement | null;
const told = own?.dataset ?? {};
const at = new URL(told.to ?? "/api/events", own?.src || location.href);
// A browser that leaves can send no headers.
if (told.key) at.searchParams.set("key", told.key);
const to = at.href;
const IDLE_MS = 30 * 60_000;
const WAIT_MS = 50;
const BATCH = 50;
/** What a browser sends for a page that may be gone, all in all. */
const BYTES = 60_000;
const MOST = 1_000;
/** A server that stands still would keep all that comes after. Old browsers wait. */
const PATIENCE_MS = 15_000;
const PAUSE_MS = 1_000;
const WAITS = "tw.waits";

let consent = told.consent !== "required";
let waiting: Fields[] = [];
let timer = 0;
let pause = PAUSE_MS;

const refused = (): boolean =>
  navigator.doNotTrack === "1" || (navigator as { globalPrivacyControl?: boolean }).globalPrivacyControl === true;

// In a page without TLS there is no randomUUID.
const id = (): string => [...crypto.getRandomValues(new Uint8Array(16))].map((it) => it.toString(16).padStart(2, "0")).join("");

// Storage may be forbidden; then an id lasts as long as the page.
const memory: Record<string, string> = {};
function stored(name: string, value?: string): string | null {
  try {
    if (value !== undefined) localStorage.setItem(name, value);
    return localStorage.getItem(name);
  } catch {
    return value === undefined ? (memory[name] ?? null) : (memory[name] = value);
  }
}

function user(): string {
  return stored("tw.user") ?? stored("tw.user", id())!;
}

/** The same in all tabs, until nothing has happened for half an hour. */
function session(now: number): string {
  const [known, at] = (stored("tw.session") ?? "").split(" ");
  const current = known && now - Number(at) < IDLE_MS ? known : id();
  stored("tw.session", `${current} ${now}`);
  return current;
}

const agent = navigator.userAgent;
const device = {
  type: /iPad|Tablet/.test(agent) ? "tablet" : /Mobi/.test(agent) ? "mobile" : "desktop",
  os: /Android/.test(agent) ? "android" : /iP(hone|ad|od)/.test(agent) ? "ios" : /Windows/.test(agent) ? "windows"
    : /Mac/.test(agent) ? "macos" : "linux",
};

function track(type: string, fields: Fields = {}): void {
  if (!consent || refused()) return;
  const now = Date.now();
  const source = new URLSearchParams(location.search).get("utm_source") ?? stored("tw.utm") ?? "direct";
  stored("tw.utm", source);
  waiting.push({
    event_id: id(), event_type: type, event_ts: new Date(now).toISOString(), user_id: user(), session_id: session(now),
    country: /-([A-Z]{2})\b/.exec(navigator.language)?.[1], device, utm: { source }, page: location.pathname, ...fields,
  });
  if (waiting.length > MOST) waiting = waiting.slice(-MOST);
  timer ||= window.setTimeout(() => void send(), WAIT_MS);
}

/** A page may show what became of its events. */
const tell = (name: string, detail: unknown): boolean => document.dispatchEvent(new CustomEvent(name, { detail }));

/** The next ones, as a text that is no larger than may be, or one event that is. */
function cut(): [Fields[], string] {
  let bytes = 2;
  const texts: string[] = [];
  for (const event of waiting.slice(0, BATCH)) {
    const text = JSON.stringify(event);
    bytes += new Blob([text]).size + 1;
    if (bytes > BYTES && texts.length) break;
    texts.push(text);
  }
  return [waiting.splice(0, texts.length), `[${texts}]`];
}

async function send(): Promise<void> {
  let wait = WAIT_MS;
  if (waiting.length) {
    const [batch, body] = cut();
    const keepalive = new Blob([body]).size <= BYTES;
    // As text: a browser then asks no leave of another server first.
    const signal = AbortSignal.timeout?.(PATIENCE_MS);
    const answer = await fetch(to, { method: "POST", body, keepalive, credentials: "omit", signal }).catch(() => null);
    if (!answer || answer.status === 429 || answer.status >= 500) {
      // Their ids are the same when they come again. Whoever has said no meanwhile sends nothing.
      if (consent) waiting = [...batch, ...waiting].slice(-MOST);
      wait = pause;
      pause = Math.min(pause * 2, 60_000);
      tell("thalweg-waits", { events: waiting, status: answer?.status });
    } else {
      pause = PAUSE_MS;
      // What is refused is so for good.
      if (answer.ok) tell("thalweg", batch);
    }
  }
  clearTimeout(timer);
  timer = waiting.length ? window.setTimeout(() => void send(), wait) : 0;
}

/** A page that is hidden may never be shown again. It hears the answer if it is, so nothing is lost that was not taken. */
function hidden(): void {
  while (waiting.length && pause === PAUSE_MS) void send();
}

/** Whoever leaves does not hear an answer; where none has come of late, the next page sends what waits. */
function leave(): void {
  while (waiting.length) {
    const [batch, body] = cut();
    if (pause > PAUSE_MS || !navigator.sendBeacon(to, body)) {
      waiting.unshift(...batch);
      // Of another tab.
      left();
      stored(WAITS, JSON.stringify(waiting.slice(-MOST)));
      waiting = [];
    }
  }
}

/** What the page before could not send. */
function left(): void {
  try {
    waiting.push(...JSON.parse(stored(WAITS) || "[]"));
  } catch { /* not ours */ }
  if (waiting.length) stored(WAITS, "");
}

/** A postal code with a zero in front, or the many digits of a card, is a text. */
const NUMBER = /^-?(0|[1-9]\d{0,14})(\.\d+)?$/;

/** `data-product-id="P-1" data-price="9.5"` as `{product_id: "P-1", price: 9.5}`. */
function fields(element: HTMLElement): Fields {
  const found: Fields = {};
  for (const [name, value] of Object.entries(element.dataset)) {
    if (name.startsWith("track") || value === undefined) continue;
    const key = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    found[key] = NUMBER.test(value) && !key.endsWith("id") ? Number(value) : value;
  }
  return found;
}

const of = (event: Event, name: string): HTMLElement | null =>
  event.target instanceof Element ? event.target.closest<HTMLElement>(`[${name}]`) : null;

addEventListener("click", (event) => {
  const element = of(event, "data-track");
  if (element && !(element instanceof HTMLFormElement)) track(element.dataset.track!, fields(element));
}, true);
addEventListener("submit", (event) => {
  const element = of(event, "data-track");
  if (element) track(element.dataset.track!, fields(element));
}, true);
addEventListener("visibilitychange", () => document.visibilityState === "hidden" && hidden());
addEventListener("pagehide", leave);

let page = "";
function arrived(): void {
  if (location.pathname === page) return;
  page = location.pathname;
  track("page_view");
  // What a page is about says so itself.
  for (const element of document.querySelectorAll<HTMLElement>("[data-track-view]")) track(element.dataset.trackView!, fields(element));
}
const push = history.pushState;
history.pushState = function (...given) {
  push.apply(this, given);
  arrived();
};
addEventListener("popstate", arrived);

Object.assign(window, {
  thalweg: {
    track,
    /** Yes or no of whoever visits; a no forgets who it was. */
    consent(given: boolean): void {
      consent = given;
      page = "";
      if (given) {
        left();
        return arrived();
      }
      waiting = [];
      for (const name of ["tw.user", "tw.session", "tw.utm", WAITS]) {
        delete memory[name];
        try {
          localStorage.removeItem(name);
        } catch { /* nothing was kept */ }
      }
    },
  },
});
if (consent && !refused()) left();
if (document.readyState === "loading") addEventListener("DOMContentLoaded", arrived);
else arrived();
