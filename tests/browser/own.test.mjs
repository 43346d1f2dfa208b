// A server without a crowd, so that each click can be told from others: the shop, the tracker, a lost connection, SQL.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser as launch, elsewhere, figure, page, Server, sleep, text, until } from "./place.mjs";

let server;
let browser;
let shop;

before(async () => {
  shop = await elsewhere({});
  const sql = `CREATE ENDPOINT '/api/elsewhere' INTO clicks WITH (key = 'user_id', origins = '${shop.url}');
CREATE MATERIALIZED VIEW every_click AS SELECT * FROM clicks;`;
  [server, browser] = await Promise.all([Server.start(sql), launch()]);
});
after(async () => {
  await browser?.close();
  shop?.close();
  await server?.stop();
});

const CLICKS = 20;

test("what is put into the cart is counted on the dashboard within a second", async () => {
  const dashboard = await page(browser);
  await dashboard.goto(`${server.url}/`);
  const visitor = await page(browser);
  await visitor.goto(`${server.url}/shop`);
  await until("the page view is taken", async () => /taken by the server/.test(await text(visitor, "#sent")));
  await until("it is counted", async () => (await figure(dashboard, "carts")) === 0);
  const took = [];
  for (let click = 1; click <= CLICKS; click += 1) {
    // Both are drawn, for a tab behind another may be slowed down.
    await dashboard.bringToFront();
    const begun = performance.now();
    await visitor.$eval("#products button", (button) => button.click());
    await dashboard.waitForFunction((wanted) =>
      Number(document.querySelector("#tile-carts .value").textContent) === wanted, { polling: 10, timeout: 10_000 }, click);
    took.push(performance.now() - begun);
    await sleep(37 * (click % 13));
  }
  took.sort((left, right) => left - right);
  const at = (share) => Math.round(took[Math.min(took.length - 1, Math.floor(share * took.length))]);
  console.log(`# click to dashboard: p50 ${at(0.5)} ms, p90 ${at(0.9)} ms, most ${at(1)} ms`);
  // A second is promised of a machine that has nothing else to do; one that has is given two for the slowest few.
  assert.ok(at(0.5) < 1_000 && at(0.9) < 2_000, `${took.map(Math.round)}`);
  await visitor.bringToFront();
  await visitor.click("#buy");
  await until("the order", async () => (await figure(dashboard, "orders")) === 1);
  await until("its worth", async () => (await figure(dashboard, "revenue")) === CLICKS * 39);
  const own = new RegExp(`^lantern${CLICKS}${CLICKS}`);
  await until("what was bought of it", async () => own.test(await text(dashboard, "#own tbody tr")));
  assert.deepEqual([...dashboard.wrong, ...visitor.wrong], []);
  await visitor.close();
  await dashboard.close();
});

test("a lost connection is told with the age of the figures, and a regained one goes on", async () => {
  const tab = await page(browser);
  await tab.goto(`${server.url}/`);
  await until("figures", async () => (await figure(tab, "carts")) === CLICKS);
  await server.kill();
  await tab.waitForSelector("#lost:not([hidden])", { timeout: 10_000 });
  assert.match(await text(tab, "#lost"), /^Lost touch with the server at .* The figures are of then/);
  await until("the age", async () => /^No touch, [2-9]\.\d s old$/.test(await text(tab, "#touch-text")));
  assert.equal(await figure(tab, "carts"), CLICKS, "the figures stay");
  await server.again();
  await until("touch", () => tab.$eval("#lost", (it) => it.hidden));
  const event = { event_type: "add_to_cart", event_ts: new Date().toISOString(), user_id: "u", session_id: "s", product_id: "P" };
  const taken = await fetch(`${server.url}/api/events`, { method: "POST", body: JSON.stringify(event) });
  assert.equal(taken.status, 202);
  await until("what came since, beside what was before the kill", async () => (await figure(tab, "carts")) === CLICKS + 1);
  assert.deepEqual(tab.wrong.filter((it) => !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|503/.test(it)), []);
  await tab.close();
});

test("a browser's subscription goes on by itself from the last mark, across a kill", async () => {
  const tab = await page(browser);
  await tab.goto(`${server.url}/shop`);
  // As the document has it.
  await tab.evaluate(() => {
    const sql = "SUBSCRIBE TO every_click WHERE event_type = 'search' WITH (live = false)";
    const log = new EventSource("/api/subscribe?sql=" + encodeURIComponent(sql));
    let told = [];
    window.kept = [];
    window.opened = 0;
    log.addEventListener("open", () => { window.opened += 1; told = []; });
    log.addEventListener("rows", (event) => told.push(...JSON.parse(event.data)));
    log.addEventListener("mark", () => { window.kept.push(...told); told = []; });
  });
  const search = async (number) => {
    const event = { event_type: "search", event_ts: new Date().toISOString(), user_id: "u", session_id: `s${number}` };
    const taken = await fetch(`${server.url}/api/events`, { method: "POST", body: JSON.stringify(event) });
    assert.equal(taken.status, 202);
  };
  const heard = (wanted) => until(`${wanted} searches`, () => tab.evaluate((it) => window.kept.length >= it, wanted));
  for (let number = 1; number <= 6; number += 1) {
    await search(number);
    if (number % 3 === 0) {
      await heard(number);
      await server.kill();
      await server.again();
      await until("it is open again", () => tab.evaluate((it) => window.opened > it, number / 3));
    }
  }
  await search(7);
  await heard(7);
  const sessions = await tab.evaluate(() => window.kept.map((row) => row.session_id));
  assert.deepEqual(sessions, ["s1", "s2", "s3", "s4", "s5", "s6", "s7"], "each once");
  await tab.close();
});

const tracked = (attributes = "") => `<!doctype html><title>A shop</title>
<script src="${server.url}/tracker.js" data-to="/api/elsewhere" ${attributes} defer></script>
<article data-track-view="product_view" data-product-id="BOOK-7" data-price="9.5">A book</article>
<button data-track="add_to_cart" data-product-id="BOOK-7" data-price="9.5" data-quantity="2"><b>Add</b></button>
<form data-track="purchase" data-product-id="BOOK-7" data-price="9.5" data-quantity="2" onsubmit="return false"><button>Buy</button></form>
<a href="/next">Next</a>`;

const events = (user) =>
  server.rows(`SELECT event_type, product_id, price, quantity, session_id, device['type'] AS device, utm['source'] AS source,
    event_id FROM every_click WHERE user_id = '${user}' ORDER BY event_ts, event_type`);

test("the tracker tells of views, carts, purchases and of those who leave", async () => {
  shop.pages["/"] = tracked();
  shop.pages["/next"] = "<!doctype html><title>Next</title>nothing is tracked here";
  const tab = await page(browser);
  await tab.goto(`${shop.url}/?utm_source=newsletter`);
  const user = await until("an id", () => tab.evaluate(() => localStorage.getItem("tw.user")));
  await until("two views", async () => (await events(user)).length === 2);
  await tab.click("b");
  await tab.click("form button");
  await until("four events", async () => (await events(user)).length === 4);
  // Clicked and gone in one breath: no timer runs any more.
  await tab.evaluate(() => {
    document.querySelector("[data-track]").click();
    location.href = "/next";
  });
  await until("what the leaving one clicked", async () => (await events(user)).length === 5);
  const told = await events(user);
  assert.deepEqual(told.map((it) => it.event_type).sort(),
    ["add_to_cart", "add_to_cart", "page_view", "product_view", "purchase"]);
  const cart = told.find((it) => it.event_type === "add_to_cart");
  assert.deepEqual([cart.product_id, cart.price, cart.quantity, cart.device, cart.source], ["BOOK-7", 9.5, 2, "desktop", "newsletter"]);
  assert.equal(new Set(told.map((it) => it.session_id)).size, 1, "one session");
  assert.equal(new Set(told.map((it) => it.event_id)).size, 5, "an id each");
  assert.deepEqual(tab.wrong.filter((it) => !/favicon|404/.test(it)), []);
  await tab.close();
});

test("the tracker waits for consent, forgets by a no, and honours who does not want to be tracked", async () => {
  const count = async () => (await server.rows("SELECT count(*) AS n FROM every_click"))[0].n;
  const before = await count();
  shop.pages["/asking"] = tracked('data-consent="required"');
  const context = await browser.createBrowserContext();
  const asking = await page(context);
  await asking.goto(`${shop.url}/asking`);
  await asking.click("b");
  await sleep(500);
  const kept = () => asking.evaluate(() => Object.keys(localStorage));
  assert.deepEqual([await count(), await kept()], [before, []], "nothing is sent or kept before consent");
  await asking.evaluate(() => window.thalweg.consent(true));
  await until("the views of the page", async () => (await count()) === before + 2);
  await asking.evaluate(() => window.thalweg.consent(false));
  await asking.click("b");
  await sleep(500);
  assert.deepEqual([await count(), await kept()], [before + 2, []]);

  for (const [name, value] of [["doNotTrack", "1"], ["globalPrivacyControl", true]]) {
    const tab = await page(context, { before: `Object.defineProperty(navigator, "${name}", { value: ${JSON.stringify(value)} })` });
    await tab.goto(`${shop.url}/`);
    await tab.click("b");
    await sleep(500);
    assert.equal(await count(), before + 2, name);
    assert.deepEqual(await tab.evaluate(() => Object.keys(localStorage)), [], name);
    await tab.close();
  }
  await context.close();
});

test("SQL is completed, run, drawn, and kept at an address", async () => {
  const tab = await page(browser);
  await tab.goto(`${server.url}/sql`);
  await tab.waitForSelector(".schema details details");
  await tab.click("textarea");
  await tab.keyboard.down("Control");
  await tab.keyboard.press("a");
  await tab.keyboard.up("Control");
  await tab.keyboard.type("SELECT product_id, carts FROM shop_cl");
  await tab.waitForSelector(".offers:not([hidden]) [aria-selected='true']");
  assert.equal(await text(tab, ".offers [aria-selected='true']"), "shop_clickstable");
  await tab.keyboard.press("Tab");
  assert.match(await tab.$eval("textarea", (it) => it.value), /FROM shop_clicks$/);
  const run = async () => {
    await tab.keyboard.down("Control");
    await tab.keyboard.press("Enter");
    await tab.keyboard.up("Control");
  };
  await run();
  await tab.waitForSelector(".result tbody tr");
  assert.equal(await text(tab, ".result tbody tr"), `SHOP-LANTERN${CLICKS}`);
  await tab.click(".result input[value='chart'] + span");
  await tab.waitForSelector(".bars li");
  assert.match(await text(tab, ".bars li"), new RegExp(`SHOP-LANTERN${CLICKS}`));

  await tab.click(".tools > .end + button");
  await tab.waitForSelector("dialog[open]");
  await tab.type("dialog input", "/api/kept/products");
  await tab.click("dialog [type='submit']");
  await until("it is kept", async () => (await fetch(`${server.url}/api/kept/products`)).ok);
  assert.deepEqual(await (await fetch(`${server.url}/api/kept/products`)).json(), [{ product_id: "SHOP-LANTERN", carts: CLICKS }]);

  await tab.click("textarea");
  await tab.keyboard.type(" WHERE nothing = 1");
  await run();
  await tab.waitForSelector(".result .fault");
  assert.match(await text(tab, ".result .fault"), /line 1, column \d+: no column "nothing"/);
  await tab.waitForSelector(".editor .e");
  assert.equal(await text(tab, ".editor .e"), "nothing");

  // One that takes long can be stopped, and is over for the server then.
  await tab.click("textarea");
  await tab.keyboard.down("Control");
  await tab.keyboard.press("a");
  await tab.keyboard.up("Control");
  await tab.keyboard.type("SELECT sum(a.value * b.value) AS s FROM generate_series(1, 3000000) a, generate_series(1, 3000000) b");
  await run();
  await tab.waitForFunction(() => document.querySelector(".tools .primary").textContent === "Stop");
  await tab.click(".tools .primary");
  assert.equal(await text(tab, ".tools [role='status']"), "stopped");
  assert.equal(await text(tab, ".tools .primary"), "Run");
  const asked = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ sql: "SELECT state FROM system.queries WHERE sql LIKE '%3000000%' AND sql LIKE '%a.value * b.value%' AND sql NOT LIKE '%system.queries%'" }) };
  await until("the statement is over", async () => /^\[\{"state":"(cancelled|failed)"\}\]$/.test(await (await fetch(`${server.url}/api/sql`, asked)).text()));

  await tab.goto(`${server.url}/endpoints`);
  const card = 'section[aria-label="/api/kept/products"]';
  await tab.waitForSelector(card);
  await tab.click(`${card} [type="submit"]`);
  await until("its answer", async () => (await tab.$eval(`${card} .answer:not(details *)`, (it) => it.textContent)).includes("SHOP-LANTERN"));
  tab.once("dialog", (dialog) => dialog.accept());
  await tab.click(`${card} .quiet-button`);
  await until("it is gone", async () => (await fetch(`${server.url}/api/kept/products`)).status === 404);
  assert.deepEqual(tab.wrong.filter((it) => !/400/.test(it)), []);
  await tab.close();
});

/** Opens a WebSocket in the page and keeps what it hears. */
const listen = (url) => new Promise((resolve) => {
  window.heard = [];
  window.socket = new WebSocket(url);
  window.socket.onmessage = (event) => window.heard.push(JSON.parse(event.data));
  window.socket.onopen = () => resolve("open");
  window.socket.onerror = () => resolve("refused");
});

test("a WebSocket tells several answers, what is watched changes, and who comes back is not told twice", async () => {
  const tab = await page(browser);
  await tab.goto(`${server.url}/shop`);
  const url = `${server.url.replace("http", "ws")}/ws`;
  assert.equal(await tab.evaluate(listen, url), "open");
  const say = (what) => tab.evaluate((text) => window.socket.send(text), typeof what === "string" ? what : JSON.stringify(what));
  const heard = (of) => tab.evaluate((name) => window.heard.filter((it) => it.of === name), of);
  await say({ watch: { all: "SELECT count(*) AS n FROM every_click", own: "/api/shop/clicks", none: "/api/nothing", bad: "DROP VIEW x" } });
  await until("both answers", async () => (await heard("all")).length === 1 && (await heard("own")).length === 1);
  const [first] = await heard("all");
  const [own] = await heard("own");
  assert.equal(own.rows[0].product_id, "SHOP-LANTERN");
  assert.match((await heard("none"))[0].error.message, /there is no endpoint/);
  assert.match((await heard("bad"))[0].error.message, /only what answers with rows/);
  await tab.click("#products li:nth-child(3) button");
  // What a page before could not send comes with this one's.
  await until("the click", async () => (await heard("all")).at(-1).rows[0].n > first.rows[0].n);
  await until("the paddle", async () => (await heard("own")).at(-1).rows.some((it) => it.product_id === "SHOP-PADDLE"));

  await say({ forget: ["all"] });
  await say("nonsense");
  await until("that it was not understood", () => tab.evaluate(() => window.heard.some((it) => it.error && !it.of)));
  await tab.evaluate(() => window.socket.send(new Uint8Array([1, 2, 3])));
  await until("that bytes are none", () => tab.evaluate(() => window.heard.some((it) => /is text/.test(it.error?.message))));
  // A value may be a number, and one that lacks is told with its name.
  const searches = "SUBSCRIBE TO every_click WHERE price > $least WITH (live = false)";
  await say({ subscribe: { log: { what: searches, parameters: { least: 30 } }, lacks: searches, wrong: { sql: searches } } });
  await until("that it has begun", async () => (await heard("log")).some((it) => it.begun));
  await until("what lacks", async () => /^parameter \$least has no value/.test((await heard("lacks"))[0]?.error.message));
  await until("what is wrong", async () => /unknown field `sql`/.test((await heard("wrong"))[0]?.error.message));
  const told = (await heard("all")).length;
  const { id } = (await heard("own")).at(-1);
  await tab.click("#products li:nth-child(3) button");
  await until("the other goes on", async () => (await heard("own")).at(-1).id !== id);
  assert.equal((await heard("all")).length, told, "it was forgotten");
  const known = (await heard("own")).at(-1).id;

  const closed = await tab.evaluate(() => new Promise((resolve) => {
    window.socket.onclose = (event) => resolve([event.code, event.reason]);
    window.socket.send(" ".repeat(1_000_000));
  }));
  assert.deepEqual(closed, [1009, "a message has at most 65536 bytes"]);
  assert.equal(await tab.evaluate(listen, url), "open");
  await say({ watch: { own: { what: "/api/shop/clicks", known } } });
  await until("a beat", () => tab.evaluate(() => window.heard.some((it) => it.beat)));
  assert.deepEqual(await heard("own"), [], "it has that already");

  shop.pages["/evil"] = "<!doctype html><title>Evil</title>";
  await tab.goto(`${shop.url}/evil`);
  assert.equal(await tab.evaluate(listen, url), "refused", "a page of somebody else");
  assert.equal((await fetch(`${server.url}/ws`)).status, 426);
  await tab.close();
});

test("a page of somebody else changes nothing, and asks in vain", async () => {
  shop.pages["/evil"] = "<!doctype html><title>Evil</title>";
  const tab = await page(browser);
  await tab.goto(`${shop.url}/evil`);
  const tried = await tab.evaluate(async (url) => {
    const ask = (path, init) => fetch(url + path, init).then((it) => it.status, (error) => error.name);
    return [
      await ask("/api/kept/evil", { method: "PUT", body: '{"sql": "SELECT 1"}' }),
      await ask("/api/geography", { method: "DELETE" }),
      await ask("/api/geography"),
      await ask("/api/events", { method: "POST", body: "{}" }),
    ];
  }, server.url);
  assert.deepEqual(tried, ["TypeError", "TypeError", "TypeError", "TypeError"]);
  const forged = await fetch(`${server.url}/api/kept/evil`, {
    method: "PUT", headers: { origin: "https://evil.example" }, body: '{"sql": "SELECT 1"}',
  });
  assert.equal(forged.status, 403);
  assert.equal((await fetch(`${server.url}/api/geography`)).status, 200);
  assert.equal((await fetch(`${server.url}/api/kept/evil`)).status, 404);
  const page_ = await fetch(`${server.url}/`);
  assert.match(page_.headers.get("content-security-policy"), /default-src 'none'.*frame-ancestors 'none'/);
  await tab.close();
});

test("the shop says that its server is away, and what was clicked meanwhile arrives", async () => {
  const counted = async () => (await server.rows("SELECT count(*) AS n FROM every_click WHERE product_id = 'SHOP-PADDLE'"))[0].n;
  const before = await counted();
  const tab = await page(browser);
  await tab.goto(`${server.url}/shop`);
  await until("the page view is taken", async () => /taken by the server/.test(await text(tab, "#sent")));
  assert.equal(await tab.$eval("#away", (it) => it.checkVisibility()), false);
  await server.kill();
  await tab.click("#products li:nth-child(3) button");
  await tab.waitForSelector("#away:not([hidden])", { timeout: 5_000 });
  await tab.click("#products li:nth-child(3) button");
  await until("both are told", async () => /^The server does not answer. 2 events wait/.test(await text(tab, "#away")));
  await server.again();
  await until("it is back", () => tab.$eval("#away", (it) => it.hidden), 60_000);
  await until("both clicks", async () => (await counted()) === before + 2);
  assert.deepEqual(tab.wrong.filter((it) => !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|503/.test(it)), []);
  await tab.close();
});
