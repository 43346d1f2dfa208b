//! Events as shops send them, made from a seed: for the tests, the bench and the fuzz target.

use std::fmt::Write;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

/// A small generator of random numbers (splitmix64), the same on every machine.
#[derive(Debug, Clone)]
pub struct Seed(pub u64);

impl Seed {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.draw() % bound as u64) as usize
    }

    pub fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }

    pub fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

pub fn list(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", element, true)))
}

pub fn fields<'a>(fields: impl IntoIterator<Item = (&'a str, DataType)>) -> Fields {
    fields.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect()
}

fn strings(names: &[&str]) -> DataType {
    DataType::Struct(fields(names.iter().map(|name| (*name, DataType::Utf8View))))
}

/// The eleven columns of [`click`].
#[allow(dead_code, reason = "the bench uses it")]
pub fn click_schema() -> SchemaRef {
    use DataType::{Float64, Int32, Utf8View};
    Arc::new(Schema::new(fields([
        ("event_id", Utf8View),
        ("event_type", Utf8View),
        ("event_ts", timestamp()),
        ("user_id", Utf8View),
        ("session_id", Utf8View),
        ("product_id", Utf8View),
        ("price", Float64),
        ("quantity", Int32),
        ("country", Utf8View),
        ("device", strings(&["type", "os"])),
        ("utm", strings(&["source"])),
    ])))
}

/// Key and value of each column of a click, 295 bytes together.
pub fn click(seed: &mut Seed) -> Vec<(&'static str, String)> {
    let types = ["page_view", "product_view", "add_to_cart", "purchase", "search"];
    vec![
        ("event_id", quoted(&uuid(seed))),
        ("event_type", quoted(seed.pick(&types))),
        ("event_ts", quoted(&instant(seed, "Z"))),
        ("user_id", format!("\"u_{:06}\"", seed.below(100_000))),
        ("session_id", format!("\"s_{:08}\"", seed.below(1_000_000))),
        ("product_id", format!("\"sku_{:05}\"", seed.below(10_000))),
        ("price", price(seed)),
        ("quantity", (1 + seed.below(3)).to_string()),
        ("country", quoted(seed.pick(&["DE", "FR", "US", "JP"]))),
        (
            "device",
            object(&[("type", quoted("desktop")), ("os", quoted(seed.pick(&["macos", "linux", "windows"])))]),
        ),
        ("utm", object(&[("source", quoted(seed.pick(&["google", "newsletter", "direct"])))])),
    ]
}

/// `{"key":value,…}` without space.
pub fn object<K: AsRef<str>, V: AsRef<str>>(entries: &[(K, V)]) -> String {
    let mut text = String::from("{");
    for (key, value) in entries {
        let comma = if text.len() > 1 { "," } else { "" };
        write!(text, "{comma}\"{}\":{}", key.as_ref(), value.as_ref()).expect("a string takes every write");
    }
    text.push('}');
    text
}

/// One schema that holds the events of all five shops.
pub fn shops_schema() -> SchemaRef {
    use DataType::{Boolean, Float64, Int32, Struct, Utf8View};
    let product = fields([("id", Utf8View), ("name", Utf8View), ("category", Utf8View), ("price", Float64)]);
    let device =
        fields([("type", Utf8View), ("os", Utf8View), ("user_agent", Utf8View), ("mobile", Boolean)]);
    let geo = fields([("country", Utf8View), ("city", Utf8View), ("lat", Float64), ("lon", Float64)]);
    let mut all: Vec<_> = ["userId", "sessionId", "eventType", "productId", "productName", "category"].into();
    all.extend(["event_id", "user_id", "event_type", "product_id", "session_id", "page_url", "user_agent"]);
    all.extend(["ip_address", "payment_method", "page", "currency", "country"]);
    let mut columns: Vec<(&str, DataType)> = all.into_iter().map(|name| (name, Utf8View)).collect();
    columns.extend([
        ("price", Float64),
        ("quantity", Int32),
        ("timestamp", timestamp()),
        ("event_ts", timestamp()),
        ("total_amount", DataType::Decimal128(12, 2)),
        ("product", Struct(product)),
        ("location", strings(&["city", "country", "ip"])),
        ("utm", strings(&["source", "medium", "campaign"])),
        ("device", Struct(device)),
        ("geo", Struct(geo)),
        ("tags", list(Utf8View)),
    ]);
    Arc::new(Schema::new(fields(columns)))
}

pub const SHOPS: usize = 5;

/// An event of one of the five shops.
pub fn shop_event(shop: usize, seed: &mut Seed) -> Vec<(&'static str, String)> {
    let types = ["view", "page_view", "add_to_cart", "remove_from_cart", "purchase", "search", "filter"];
    let event_type = quoted(seed.pick(&types));
    let user = format!("\"user-{}\"", seed.below(100_000));
    let name = quoted(seed.pick(&["Espresso machine", "Chaise longue", "Größe 42 Schuhe", "Mug"]));
    let category = quoted(seed.pick(&["kitchen", "garden", "clothing and shoes"]));
    let city = quoted(seed.pick(&["Berlin", "Paris", "São Paulo", "東京"]));
    let agent = quoted("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36");
    match shop {
        0 => vec![
            ("userId", user),
            ("sessionId", quoted(&uuid(seed))),
            ("eventType", event_type),
            ("productId", format!("\"p{}\"", seed.below(10_000))),
            ("productName", name),
            ("category", category),
            ("price", price(seed)),
            ("quantity", (1 + seed.below(3)).to_string()),
            ("timestamp", quoted(&instant(seed, "Z"))),
        ],
        1 => vec![
            ("event_id", quoted(&uuid(seed))),
            ("user_id", user),
            ("event_type", event_type),
            ("product_id", format!("\"{}\"", seed.below(10_000))),
            ("timestamp", quoted(&instant(seed, ""))),
            ("session_id", quoted(&uuid(seed))),
            ("page_url", format!("\"https://shop.example/p/{}?ref=mail\"", seed.below(10_000))),
            ("user_agent", agent),
            ("ip_address", format!("\"10.0.{}.{}\"", seed.below(256), seed.below(256))),
        ],
        2 => vec![
            ("event_type", event_type),
            ("user_id", user),
            (
                "product",
                object(&[
                    ("id", quoted("p-1")),
                    ("name", name),
                    ("category", category),
                    ("price", price(seed)),
                ]),
            ),
            ("location", object(&[("city", city), ("country", quoted("DE")), ("ip", quoted("192.0.2.7"))])),
            ("total_amount", price(seed)),
            ("payment_method", quoted(seed.pick(&["card", "invoice", "wallet"]))),
            ("timestamp", quoted(&instant(seed, "+02:00"))),
        ],
        3 => vec![
            ("event_ts", quoted(&instant(seed, "Z"))),
            ("event_type", event_type),
            ("page", quoted("/checkout/payment")),
            ("price", price(seed)),
            ("currency", quoted("EUR")),
            ("utm", object(&[("source", "\"google\""), ("medium", "\"cpc\""), ("campaign", "null")])),
            ("device", object(&[("user_agent", agent.as_str()), ("os", "\"ios\""), ("mobile", "true")])),
            ("geo", object(&[("country", "\"FR\""), ("city", &city), ("lat", "48.8566"), ("lon", "2.3522")])),
            ("tags", "[\"sale\",\"new\"]".to_owned()),
        ],
        _ => click(seed),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn uuid(seed: &mut Seed) -> String {
    let (high, low) = (seed.draw(), seed.draw());
    let (a, b, c) = (high >> 32, (high >> 16) & 0xFFFF, high & 0xFFFF);
    format!("{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", low >> 48, low & 0xFFFF_FFFF_FFFF)
}

/// Cents up to four digits before the point, small prices more often.
fn price(seed: &mut Seed) -> String {
    let bound = [1_000, 10_000, 10_000, 100_000][seed.below(4)];
    let cents = 100 + seed.below(bound);
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn instant(seed: &mut Seed, zone: &str) -> String {
    let (second, millis) = (seed.below(86_400), seed.below(1000));
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("2025-06-{:02}T{hour:02}:{minute:02}:{:02}.{millis:03}{zone}", 1 + seed.below(3), second % 60)
}
