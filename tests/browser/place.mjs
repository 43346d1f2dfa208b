// A server of its own and a browser, as each test file has them.
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile, readFile } from "node:fs/promises";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const BINARY = process.env.THALWEG ?? fail("THALWEG is the binary to test");
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
export const ROOT = new URL("../../", import.meta.url).pathname;

function fail(message) {
  throw new Error(message);
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks again until it is so. */
export async function until(what, question, within = 15_000) {
  const begun = Date.now();
  let last;
  for (;;) {
    try {
      last = await question();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() - begun > within) fail(`not within ${within} ms: ${what}; last: ${last}`);
    await sleep(25);
  }
}

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

export class Server {
  /** `demo`, or SQL for `serve`: the stream of the demo without its crowd, and what else is given. */
  static async start(sql) {
    const server = new Server();
    server.folder = await mkdtemp(join(tmpdir(), "thalweg-browser-"));
    server.port = await freePort();
    server.flight = await freePort();
    server.url = `http://127.0.0.1:${server.port}`;
    server.files = [];
    if (sql !== undefined) {
      const own = join(server.folder, "own.sql");
      await writeFile(own, sql);
      const queries = ["10_kpis", "20_conversion", "30_products", "40_traffic", "50_users", "80_endpoints"];
      // The last reads these.
      const rest = ["60_archive", "65_rollups", "70_daily_report", "75_alerts"];
      const file = (name) => join(ROOT, "queries", `${name}.sql`);
      server.files = [join(ROOT, "cli/src/serve/clicks.sql"), ...[...queries.slice(0, 5), ...rest, queries[5]].map(file), own];
    }
    await server.again();
    return server;
  }

  /** On the same data, after it was killed too. */
  async again() {
    const command = this.files.length ? ["serve", ...this.files] : ["demo"];
    const log = [];
    this.child = spawn(BINARY, [...command, "--data", join(this.folder, "data"), "--http", `127.0.0.1:${this.port}`,
      "--flight", `127.0.0.1:${this.flight}`], { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.child.stdout, this.child.stderr]) stream.on("data", (text) => log.push(text));
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.ended = ended;
    await until("the server is ready", async () => {
      if (this.child.exitCode !== null) fail(`the server ended: ${log.join("")}`);
      return (await fetch(`${this.url}/health/ready`)).ok;
    }, 60_000);
  }

  async kill() {
    this.child.kill("SIGKILL");
    await this.ended;
  }

  async stop() {
    await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }

  async rows(sql) {
    const answer = await fetch(`${this.url}/api/sql`, { method: "POST", body: sql });
    if (!answer.ok) fail(`${sql}: ${await answer.text()}`);
    return answer.json();
  }
}

export async function browser() {
  return puppeteer.launch({
    executablePath: CHROMIUM, headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"],
  });
}

/** A page, and what went wrong in it: every test ends with `calm`. */
export async function page(browser, { width = 1280, height = 900, dark = false, before } = {}) {
  const tab = await browser.newPage();
  tab.wrong = [];
  tab.asked = [];
  tab.on("pageerror", (error) => tab.wrong.push(String(error)));
  tab.on("console", (message) => message.type() === "error" && tab.wrong.push(message.text()));
  tab.on("request", (request) => tab.asked.push(request.url()));
  const narrow = width < 500;
  await tab.setViewport({ width, height, isMobile: narrow, hasTouch: narrow });
  await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }]);
  if (before) await tab.evaluateOnNewDocument(before);
  return tab;
}

export const text = (tab, selector) => tab.$eval(selector, (element) => element.textContent);

/** The figure of a tile as a number. */
export const figure = async (tab, id) => Number((await text(tab, `#tile-${id} .value`)).replace(/[^\d.-]/g, ""));

/** A shop of somebody else: serves pages under another origin. */
export async function elsewhere(pages) {
  const server = http.createServer((request, response) => {
    const body = pages[new URL(request.url, "http://x").pathname];
    response.writeHead(body ? 200 : 404, { "content-type": "text/html; charset=utf-8" });
    response.end(body ?? "");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, pages, close: () => server.close() };
}

export const source = (path) => readFile(join(ROOT, path), "utf8");
