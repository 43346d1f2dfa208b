// Figures, told and not judged: how long a click takes to the dashboard, what the dashboard loads, and when its first line is
// drawn. A machine that has other things to do tells others.
//   THALWEG=… CLICKS=100 LOADS=20 node figures.mjs
import { PredefinedNetworkConditions } from "puppeteer-core";
import { browser as launch, figure, page, Server, sleep, text, until } from "./place.mjs";

const CLICKS = Number(process.env.CLICKS ?? 100);
const LOADS = Number(process.env.LOADS ?? 20);

const told = (values) => {
  const sorted = [...values].sort((left, right) => left - right);
  const at = (share) => Math.round(sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]);
  return `p50 ${at(0.5)} ms, p90 ${at(0.9)} ms, p99 ${at(0.99)} ms, most ${at(1)} ms`;
};
const KIB = (bytes) => `${(bytes / 1024).toFixed(1)} KiB`;

/** A server without a crowd: each change of the figure is of one click. */
async function clicks(browser) {
  const server = await Server.start("CREATE MATERIALIZED VIEW every_click AS SELECT * FROM clicks;");
  try {
    const dashboard = await page(browser);
    await dashboard.goto(`${server.url}/`);
    const visitor = await page(browser);
    await visitor.goto(`${server.url}/shop`);
    await until("the page view is taken", async () => /taken by the server/.test(await text(visitor, "#sent")));
    await until("it is counted", async () => (await figure(dashboard, "carts")) === 0);
    // Both by the browser's own clock, which is one for its pages: when the figure has been drawn, and when 202 was there.
    await dashboard.evaluate(() => {
      window.drawn = {};
      const value = document.querySelector("#tile-carts .value");
      new MutationObserver(() => requestAnimationFrame(() => {
        window.drawn[Number(value.textContent)] ??= performance.timeOrigin + performance.now();
      })).observe(value, { childList: true, characterData: true, subtree: true });
    });
    await visitor.evaluate(() => {
      window.taken = [];
      document.addEventListener("thalweg", () => window.taken.push(performance.timeOrigin + performance.now()));
    });
    await dashboard.bringToFront();
    const [toServer, toFigure] = [[], []];
    for (let click = 1; click <= CLICKS; click += 1) {
      const begun = await visitor.evaluate(() => {
        const now = performance.timeOrigin + performance.now();
        document.querySelector("#products button").click();
        return now;
      });
      const drawn = await until("the figure", () => dashboard.evaluate((wanted) => window.drawn[wanted], click));
      toFigure.push(drawn - begun);
      toServer.push((await visitor.evaluate(() => window.taken.at(-1))) - begun);
      // At no fixed distance from what the server does once a second.
      await sleep(37 * (click % 29));
    }
    console.log(`${CLICKS} clicks in the shop`);
    console.log(`  until the server has answered 202, 50 ms of which the tracker waits for more: ${told(toServer)}`);
    console.log(`  until the figure on the dashboard is drawn: ${told(toFigure)}`);
  } finally {
    await server.stop();
  }
}

/** Set in the page before anything else: when a line was first drawn with the colour of one. */
function watchCanvas() {
  const coloured = (canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let points = 0;
    for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 200 && data[at + 2] > data[at] + 40) points += 1;
    return points > 10;
  };
  const look = () => {
    const canvas = document.querySelector(".chart canvas");
    if (canvas?.width && coloured(canvas)) window.firstLine = performance.now();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}

/** One load of the dashboard by a browser that has nothing of it yet. */
async function load(browser, url, network) {
  const context = await browser.createBrowserContext();
  const tab = await page(context, { before: `(${watchCanvas})()` });
  const asking = await tab.createCDPSession();
  await asking.send("Network.enable");
  const kinds = new Map();
  const asked = new Map();
  asking.on("Network.responseReceived", ({ requestId, type, response }) => {
    const { pathname } = new URL(response.url);
    const kind = pathname.startsWith("/api/") ? "answers until then" : pathname === "/favicon.ico" || type === "Image" ? "Image" : type;
    asked.set(requestId, kind);
    const sum = kinds.get(kind) ?? { sent: 0, raw: 0 };
    sum.sent += response.encodedDataLength;
    kinds.set(kind, sum);
  });
  asking.on("Network.dataReceived", ({ requestId, dataLength, encodedDataLength }) => {
    const sum = kinds.get(asked.get(requestId));
    if (!sum) return;
    sum.sent += encodedDataLength;
    sum.raw += dataLength;
  });
  if (network) await tab.emulateNetworkConditions(network);
  await tab.goto(`${url}/`, { waitUntil: "domcontentloaded" });
  const line = await until("the first line", () => tab.evaluate(() => window.firstLine), 30_000);
  const painted = await tab.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
  await context.close();
  return { line, painted, kinds };
}

async function loads(browser) {
  const server = await Server.start();
  try {
    // Three minutes, so that there is a line.
    await until("there is something to draw", async () =>
      (await (await fetch(`${server.url}/api/metrics/history?minutes=10`)).json()).length >= 3, 240_000);
    for (const [name, network] of [["this machine", undefined], ["fast 3G", PredefinedNetworkConditions["Fast 3G"]]]) {
      const all = [];
      for (let at = 0; at < LOADS; at += 1) all.push(await load(browser, server.url, network));
      console.log(`the dashboard over ${name}, ${LOADS} loads with nothing cached`);
      console.log(`  until something is painted: ${told(all.map((it) => it.painted))}`);
      console.log(`  until the first line is drawn: ${told(all.map((it) => it.line))}`);
      if (network) continue;
      const { kinds } = all.at(-1);
      let [sent, raw] = [0, 0];
      for (const [kind, sum] of kinds) {
        console.log(`  ${kind}: ${KIB(sum.sent)} on the wire with headers, ${KIB(sum.raw)} as they are`);
        if (kind.startsWith("answers")) continue;
        sent += sum.sent;
        raw += sum.raw;
      }
      console.log(`  all files: ${KIB(sent)} on the wire, ${KIB(raw)} as they are`);
    }
  } finally {
    await server.stop();
  }
}

const browser = await launch();
try {
  await clicks(browser);
  await loads(browser);
} finally {
  await browser.close();
}
