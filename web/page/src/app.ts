// The frame of all pages: which one is shown, whether there is touch with the server, and the theme.

import { byId, setText } from "./dom";
import { endpoints } from "./endpoints";
import { engine } from "./engine";
import type { Touch } from "./feed";
import { age } from "./format";
import { overview } from "./overview";

// What sql.js takes from here.
export * from "./chart";
export * from "./dom";
export * from "./feed";
export * from "./format";
export * from "./parts";

export type Page = (main: HTMLElement, touched: (touch: Touch) => void) => () => void;

/** Pages that are not of the first sight are fetched when they are. */
const PAGES: Record<string, [string, () => Promise<Page>]> = {
  "/": ["Shop", async () => overview],
  "/engine": ["Engine", async () => engine],
  "/sql": ["SQL", async () => ((await import("/page/sql.js" as string)) as { sql: Page }).sql],
  "/endpoints": ["Endpoints", async () => endpoints],
};

const main = byId("main");
let leave: () => void = () => undefined;
let shown = 0;

async function show(path: string): Promise<void> {
  const [title, load] = PAGES[path] ?? PAGES["/"]!;
  document.title = `${title} · Thalweg`;
  for (const link of document.querySelectorAll<HTMLAnchorElement>("nav a")) {
    if (link.pathname === path) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  leave();
  leave = () => undefined;
  const mine = ++shown;
  touched({ state: "connecting", heardAt: null, since: Date.now() });
  try {
    const page = await load();
    // Somebody was faster with another link.
    if (mine === shown) leave = page(main, (touch) => mine === shown && touched(touch));
  } catch {
    if (mine === shown) main.textContent = "This page could not be loaded. The server may be away: try again.";
  }
}

document.addEventListener("click", (event) => {
  const link = (event.target as Element).closest<HTMLAnchorElement>("a[data-page]");
  if (!link || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  if (link.pathname === location.pathname) return;
  history.pushState(null, "", link.pathname);
  void show(link.pathname).then(() => main.focus({ preventScroll: true }));
  scrollTo(0, 0);
});
addEventListener("popstate", () => void show(location.pathname));

/** Below this the figures are of now. */
const FRESH_MS = 3_000;

function touched(touch: Touch): void {
  const place = byId("touch");
  const lost = byId("lost");
  const old = touch.heardAt === null ? null : Date.now() - touch.heardAt;
  const gone = touch.state === "lost";
  place.dataset.state = touch.state;
  document.body.classList.toggle("is-lost", gone);
  if (gone) {
    setText(byId("touch-text"), old === null ? "No touch" : `No touch, ${age(old)} old`);
    // Told once, not each second: the age is beside it.
    setText(lost, touch.heardAt === null ? "The server does not answer. Trying again."
      : `Lost touch with the server at ${new Date(touch.since).toLocaleTimeString()}. The figures are of then. Trying again.`);
  } else if (touch.state === "connecting") setText(byId("touch-text"), "Connecting");
  else setText(byId("touch-text"), old === null || old < FRESH_MS ? "Live" : `Live, unchanged for ${age(old)}`);
  lost.hidden = !gone;
}

const THEMES = ["system", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];
const icons: Record<Theme, string> = { system: "◐", light: "☀", dark: "☾" };
const dark = matchMedia("(prefers-color-scheme: dark)");
const button = byId("theme");
let theme = (localStorage.getItem("thalweg.theme") ?? "system") as Theme;

function dress(): void {
  // Without a word of ours the browser goes by the system, from the first paint on.
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  setText(button, icons[theme] ?? icons.system);
  button.setAttribute("aria-label", `Theme: ${theme}`);
  button.title = `Theme: ${theme}`;
  document.dispatchEvent(new Event("themechange"));
}
button.addEventListener("click", () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "system";
  localStorage.setItem("thalweg.theme", theme);
  dress();
});
dark.addEventListener("change", dress);
dress();
void show(location.pathname);
