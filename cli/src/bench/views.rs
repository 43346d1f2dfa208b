//! The views of the bench: two as a shop would have them, written once for the engine and once for the baseline, and as
//! many more as are asked for.

pub struct View {
    pub name: String,
    pub query: String,
}

/// With what batch DataFusion is asked instead.
pub const SHOP: [(&str, &str, &str); 2] = [
    (
        "by_type",
        "SELECT window_start, window_end, event_type, count(*) AS events, \
         sum(price * quantity) FILTER (WHERE event_type = 'purchase') AS revenue, \
         count(DISTINCT session_id) AS sessions \
         FROM TUMBLE(clicks, event_ts, INTERVAL '1 minute') GROUP BY window_start, window_end, event_type",
        "SELECT date_bin(INTERVAL '1 minute', event_ts) AS window_start, event_type, count(*) AS events, \
         sum(price * quantity) FILTER (WHERE event_type = 'purchase') AS revenue, \
         count(DISTINCT session_id) AS sessions FROM clicks GROUP BY 1, 2",
    ),
    (
        "by_product",
        "SELECT window_start, window_end, product_id, count(*) AS events, sum(price * quantity) AS revenue \
         FROM TUMBLE(clicks, event_ts, INTERVAL '10 seconds') GROUP BY window_start, window_end, product_id",
        "SELECT date_bin(INTERVAL '10 seconds', event_ts) AS window_start, product_id, count(*) AS events, \
         sum(price * quantity) AS revenue FROM clicks GROUP BY 1, 2",
    ),
];

const KEYS: [&str; 5] = ["event_type", "country", "device['type']", "utm['source']", "device['os']"];
const SIZES: [&str; 4] = ["10 seconds", "1 minute", "5 minutes", "1 hour"];
const FILTERS: [&str; 5] = [
    "",
    "WHERE event_type = 'purchase'",
    "WHERE event_type = 'page_view'",
    "WHERE country = 'DE'",
    "WHERE price > 20",
];

/// So many views. All the others differ from each other in keys, windows or filters, or are all like the first.
pub fn views(count: usize, alike: bool) -> Vec<View> {
    let view = |number: usize| {
        if alike {
            let name = if number == 0 { "by_type".into() } else { format!("by_type_{number}") };
            return View { name, query: SHOP[0].1.into() };
        }
        match SHOP.get(number) {
            Some((name, query, _)) => View { name: (*name).into(), query: (*query).into() },
            None => other(number - SHOP.len()),
        }
    };
    (0..count).map(view).collect()
}

fn other(number: usize) -> View {
    let key = KEYS[number % KEYS.len()];
    let size = SIZES[number / KEYS.len() % SIZES.len()];
    let filter = FILTERS[number / KEYS.len() / SIZES.len() % FILTERS.len()];
    View {
        name: format!("other_{number}"),
        query: format!(
            "SELECT window_start, window_end, {key} AS k, count(*) AS events, sum(price * quantity) AS revenue, \
             max(price) AS dearest FROM TUMBLE(clicks, event_ts, INTERVAL '{size}') {filter} \
             GROUP BY window_start, window_end, {key}"
        ),
    }
}
