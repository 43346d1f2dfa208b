// A shop of eight things, so that there is something to click. What is counted is tracker.js's matter: here are only the
// attributes that any shop would write.

import { byId, h, setText, svg } from "./dom";
import { age, price as priced } from "./format";

interface Product {
  id: string;
  name: string;
  price: number;
  ground: string;
  shape: string;
}

const PRODUCTS: Product[] = [
  { id: "SHOP-LANTERN", name: "Lantern", price: 39, ground: "#e9c46a", shape: "M44 16h12v6h6l4 26H34l4-26h6zM46 8h8v6h-8z" },
  { id: "SHOP-ROPE", name: "Rope, 20 m", price: 18.5, ground: "#d9b38c", shape: "M30 30a20 16 0 1 0 40 0 20 16 0 1 0-40 0m9 0a11 8 0 1 1 22 0 11 8 0 1 1-22 0" },
  { id: "SHOP-PADDLE", name: "Paddle", price: 64, ground: "#a8c5b5", shape: "M47 6h6v30c8 2 8 18 2 20H45c-6-2-6-18 2-20z" },
  { id: "SHOP-MAP", name: "River map", price: 12.9, ground: "#b8cfd6", shape: "M26 14l16-4 16 4 16-4v36l-16 4-16-4-16 4z" },
  { id: "SHOP-FLASK", name: "Flask", price: 24, ground: "#c9b6cf", shape: "M44 8h12v8l4 6v26a6 6 0 0 1-6 6h-8a6 6 0 0 1-6-6V22l4-6z" },
  { id: "SHOP-BOOTS", name: "Boots", price: 89, ground: "#b9a58f", shape: "M36 8h16v26l18 8v10H36z" },
  { id: "SHOP-KETTLE", name: "Kettle", price: 45, ground: "#e0a899", shape: "M34 24h32l4 28H30zM42 24a8 10 0 0 1 16 0h-4a4 6 0 0 0-8 0zM68 28l10-6-6 18z" },
  { id: "SHOP-COMPASS", name: "Compass", price: 32, ground: "#9db4c9", shape: "M28 30a22 22 0 1 0 44 0 22 22 0 1 0-44 0m22-16l6 16-6 16-6-16z" },
];

interface Tracker {
  track(type: string, fields: Record<string, unknown>): void;
}

const cart = new Map<Product, number>();
let sent = 0;

function drawCart(): void {
  const lines = [...cart];
  byId("cart").replaceChildren(...lines.map(([product, quantity]) =>
    h("li", {}, `${quantity} × ${product.name}`, h("b", {}, priced(quantity * product.price)))));
  byId("empty").hidden = lines.length > 0;
  setText(byId("total"), priced(lines.reduce((all, [product, quantity]) => all + quantity * product.price, 0)));
  (byId("buy") as HTMLButtonElement).disabled = lines.length === 0;
}

byId("products").replaceChildren(...PRODUCTS.map((product) => {
  const add = h("button", {
    type: "button", "data-track": "add_to_cart", "data-product-id": product.id, "data-price": product.price, "data-quantity": 1,
    "aria-label": `Add to cart: ${product.name}`,
    onclick: () => {
      cart.set(product, (cart.get(product) ?? 0) + 1);
      drawCart();
    },
  }, "Add to cart");
  const picture = svg("svg", { viewBox: "0 0 100 60", "aria-hidden": "true" }, svg("rect", { width: 100, height: 60, fill: product.ground }),
    svg("path", { d: product.shape, fill: "#2b2620", "fill-rule": "evenodd", opacity: 0.82 }));
  const item = h("li", {});
  item.append(picture, h("div", { class: "text" }, h("h3", {}, product.name, h("span", {}, priced(product.price))), add));
  return item;
}));

byId("buy").addEventListener("click", () => {
  // One event a product: what was bought of each is a row.
  const { track } = (window as unknown as { thalweg: Tracker }).thalweg;
  for (const [product, quantity] of cart) track("purchase", { product_id: product.id, price: product.price, quantity });
  cart.clear();
  drawCart();
});

document.addEventListener("thalweg", (event) => {
  const batch = (event as CustomEvent<{ event_type: string; event_ts: string }[]>).detail;
  sent += batch.length;
  byId("away").hidden = true;
  const last = batch[batch.length - 1];
  const took = last ? Date.now() - Date.parse(last.event_ts) : 0;
  setText(byId("sent"), `${sent} ${sent === 1 ? "event" : "events"} taken by the server; the last, ${last?.event_type.replaceAll("_", " ")}, after ${age(took)}.`);
});
document.addEventListener("thalweg-waits", (event) => {
  const { events, status } = (event as CustomEvent<{ events: unknown[]; status?: number }>).detail;
  const why = status === undefined ? "The server does not answer." : `The server takes no events just now (${status}).`;
  const wait = events.length === 1 ? "1 event waits" : `${events.length} events wait`;
  setText(byId("away"), `${why} ${wait} in this page. Trying again.`);
  byId("away").hidden = false;
});
drawCart();
