// The demo's pages with real data: a thousand clicks a second.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser as launch, figure, page, Server, sleep, text, until } from "./place.mjs";

let server;
let browser;

before(async () => {
  [server, browser] = await Promise.all([Server.start(), launch()]);
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

const PANELS = ["Revenue and traffic by minute", "Funnel", "Alerts", "Trending products", "Geography", "Campaigns", "Devices",
  "Refused events", "Late events"];

test("the shop's page is filled with what is counted, and loads nothing from elsewhere", async () => {
  const tab = await page(browser);
  let bytes = 0;
  tab.on("response", async (response) => {
    if (response.url().includes("/api/")) return;
    bytes += Number(response.headers()["content-length"] ?? 0);
  });
  const begun = Date.now();
  await tab.goto(`${server.url}/`);
  await tab.waitForSelector(".chart canvas");
  await until("a figure", async () => (await figure(tab, "revenue")) > 0);
  console.log(`# first chart after ${Date.now() - begun} ms, ${bytes} bytes of files`);
  assert.ok(bytes > 10_000 && bytes < 60_000, `${bytes} bytes`);
  for (const title of PANELS) {
    const panel = `section[aria-label="${title}"]`;
    await until(`${title} is filled`, () => tab.$eval(panel, (it) =>
      !it.querySelector(".panel-body").hidden || /No row was late/.test(it.querySelector(".note").textContent)));
  }
  for (const id of ["orders", "value", "conversion", "carts", "sessions", "events"]) {
    await until(`${id} is counted`, async () => (await figure(tab, id)) > 0);
  }
  assert.equal((await tab.$$(".funnel li")).length, 3);
  assert.ok((await tab.$$('section[aria-label="Geography"] tbody tr')).length >= 4);
  // Something is drawn, in the theme's colour.
  await until("a line, or the first points of one", () => tab.$eval(".chart canvas", (canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let points = 0;
    for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 200 && data[at + 2] > data[at] + 40) points += 1;
    return points > 10;
  }));
  // It goes on by itself.
  const first = await figure(tab, "carts");
  await until("more carts", async () => (await figure(tab, "carts")) > first, 4_000);
  assert.equal(await text(tab, "#touch-text"), "Live");
  const foreign = tab.asked.filter((url) => !url.startsWith(server.url) && !url.startsWith("data:"));
  assert.deepEqual(foreign, []);
  assert.equal(tab.asked.filter((url) => url.includes("/api/watch")).length, 1, "one connection for all of it");
  for (const link of await tab.$$eval(".menu-items a", (links) => links.map((it) => it.href))) {
    const answer = await fetch(link);
    assert.equal(answer.status, 200, `${link}: ${answer.ok ? "" : await answer.text()}`);
    await answer.arrayBuffer();
  }
  assert.deepEqual(tab.wrong, []);
  await tab.close();
});

test("a period is chosen and kept, and a chart is zoomed by keys", async () => {
  const tab = await page(browser);
  await tab.goto(`${server.url}/`);
  await tab.waitForSelector(".chart canvas");
  await tab.click('input[value="60"] + span');
  await until("the hour is asked for", () => tab.asked.some((url) => url.includes("history?minutes=123")));
  await tab.reload();
  assert.equal(await tab.$eval('input[name="period"]:checked', (it) => it.value), "60");
  await tab.waitForSelector(".chart canvas");
  await tab.focus(".plot");
  const name = await tab.$eval(".plot", (it) => it.getAttribute("aria-label"));
  assert.match(name, /^Revenue, since .*now .*most/);
  await tab.keyboard.press("+");
  await tab.waitForSelector(".chart-head button:not([hidden])");
  // Those beside it go along.
  assert.equal((await tab.$$(".chart-head button:not([hidden])")).length, 3);
  await tab.keyboard.press("Escape");
  await until("the whole", () => tab.$$eval(".chart-head button", (all) => all.every((it) => it.hidden)));
  assert.deepEqual(tab.wrong, []);
  await tab.close();
});

test("the engine's page tells of throughput, lag, commits, store and memory", async () => {
  const tab = await page(browser);
  await tab.goto(`${server.url}/engine`);
  await until("commits", async () => (await figure(tab, "commit")) > 0);
  await until("throughput", async () => {
    const rate = await figure(tab, "throughput");
    return rate > 500 && rate < 2_000;
  });
  await until("memory", async () => /MiB|GiB/.test(await text(tab, "#tile-memory .value")));
  assert.equal(await text(tab, "#tile-store .value"), "answers");
  assert.equal((await tab.$$('section[aria-label="Lag by partition"] tbody tr')).length, 4);
  assert.ok((await tab.$$('section[aria-label="Views"] tbody tr')).length > 10);
  assert.deepEqual(tab.wrong, []);
  await tab.close();
});

/** Text whose colour is too near its ground, by WCAG's measure. */
function faint() {
  const channel = (value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const colour = (text) => (/[\d.]+/.test(text) ? text.match(/[\d.]+/g).map(Number) : [0, 0, 0, 0]);
  const light = ([r, g, b]) => 0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = colour(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] > 0.9) return found;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility({ opacityProperty: true })) continue;
    const [above, below] = [light(colour(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
    const contrast = (above + 0.05) / (below + 0.05);
    if (contrast < 4.5) bad.push(`${element.className || element.tagName} "${element.textContent.slice(0, 30)}" ${contrast.toFixed(2)}`);
  }
  return bad;
}

test("every page fits a phone, in the dark too, and can be read", async () => {
  for (const dark of [false, true]) {
    const tab = await page(browser, { width: 390, height: 844, dark });
    for (const path of ["/", "/engine", "/sql", "/endpoints", "/shop"]) {
      await tab.goto(server.url + path);
      await sleep(path === "/" || path === "/engine" ? 1_500 : 600);
      const wide = await tab.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${path} is ${wide} px too wide`);
      const ground = await tab.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number));
      assert.equal(ground[0] < 60, dark, `${path}: ${ground}`);
      if (path !== "/sql") assert.deepEqual(await tab.evaluate(faint), [], `${path}, dark: ${dark}`);
      const nameless = await tab.$$eval("button, a, input, textarea, select", (all) =>
        all.filter((it) => !(it.textContent.trim() || it.getAttribute("aria-label") || it.labels?.length)).map((it) => it.outerHTML));
      assert.deepEqual(nameless, [], path);
    }
    assert.deepEqual(tab.wrong, []);
    await tab.close();
  }
});

test("pages are reached by keys alone", async () => {
  const tab = await page(browser);
  await tab.goto(`${server.url}/`);
  await tab.waitForSelector(".tile");
  await tab.keyboard.press("Tab");
  assert.equal(await tab.evaluate(() => document.activeElement.className), "skip");
  for (let at = 0; at < 3; at += 1) await tab.keyboard.press("Tab");
  assert.equal(await tab.evaluate(() => document.activeElement.textContent), "Engine");
  await tab.keyboard.press("Enter");
  await tab.waitForSelector("#tile-throughput");
  assert.equal(await tab.evaluate(() => document.activeElement.id), "main");
  assert.equal(await tab.title(), "Engine · Thalweg");
  await tab.goBack();
  await tab.waitForSelector("#tile-revenue");
  await tab.focus(".menu summary");
  await tab.keyboard.press("Enter");
  await tab.keyboard.press("Tab");
  assert.match(await tab.evaluate(() => document.activeElement.href), /\.csv/);
  await tab.keyboard.press("Escape");
  assert.equal(await tab.evaluate(() => document.activeElement.tagName), "SUMMARY");
  assert.deepEqual(tab.wrong, []);
  await tab.close();
});
