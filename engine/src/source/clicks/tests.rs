//! The generator gives the same clicks at any offset, of the shape and spread that a shop has.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;

fn click(clicks: &Clicks, partition: i32, offset: i64) -> String {
    let mut out = Vec::new();
    clicks.write(PartitionId(partition), offset, &mut out);
    String::from_utf8(out).unwrap()
}

fn json(clicks: &Clicks, partition: i32, offset: i64) -> Value {
    serde_json::from_str(&click(clicks, partition, offset)).unwrap()
}

fn event_micros(click: &Value) -> Micros {
    chrono::DateTime::parse_from_rfc3339(click["event_ts"].as_str().unwrap()).unwrap().timestamp_micros()
}

#[test]
fn a_seed_gives_the_same_bytes_for_ever() {
    let clicks = Clicks::new(7, 4, None, None);
    expect_test::expect![[r#"
        {"event_id":"6e8dbf62-9b04-4740-bda4-27d9be641ee8","event_type":"page_view","event_ts":"2025-06-01T00:00:04.838Z","user_id":"u_057444","session_id":"s_00001236","product_id":"sku_07121","price":4.54,"quantity":1,"country":"SE","device":{"type":"tablet","os":"ios"},"utm":{"source":"direct"}}
        {"event_id":"959debaa-5a54-4b28-8203-c92c329fbc35","event_type":"product_view","event_ts":"2025-06-01T06:51:36.271Z","user_id":"u_086719","session_id":"s_41151823","product_id":"sku_03769","price":248.10,"quantity":1,"country":"GB","device":{"type":"desktop","os":"macos"},"utm":{"source":"instagram"}}
    "#]].assert_eq(&format!(
        "{}\n{}\n",
        click(&clicks, 0, 0),
        click(&clicks, 3, 123_456_789)
    ));
    assert_eq!(click(&clicks, 1, 99), click(&Clicks::new(7, 4, None, None), 1, 99));
    assert_ne!(click(&clicks, 1, 99), click(&Clicks::new(8, 4, None, None), 1, 99));
}

#[test]
fn the_shape_is_the_benchs() {
    let clicks = Clicks::new(1, 4, None, None);
    let keys = [
        "event_id",
        "event_type",
        "event_ts",
        "user_id",
        "session_id",
        "product_id",
        "price",
        "quantity",
        "country",
        "device",
        "utm",
    ];
    let (mut bytes, n) = (0, 20_000);
    for offset in 0..n {
        let text = click(&clicks, (offset % 4) as i32, offset / 4);
        bytes += text.len();
        let mut rest = text.as_str();
        for key in keys {
            let at =
                rest.find(&format!("\"{key}\":")).unwrap_or_else(|| panic!("{key} in its place in {text}"));
            rest = &rest[at..];
        }
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value.as_object().unwrap().len(), keys.len());
        uuid::Uuid::parse_str(value["event_id"].as_str().unwrap()).unwrap();
        assert!(value["price"].as_f64().unwrap() > 1.0 && value["quantity"].as_i64().unwrap() >= 1);
    }
    let mean = bytes as f64 / n as f64;
    assert!((290.0..300.0).contains(&mean), "{mean} bytes");
}

#[test]
fn sessions_have_one_user_and_about_12_events() {
    let clicks = Clicks::new(3, 2, None, None);
    let rounds = 24 * 4;
    let mut sessions: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for offset in 0..(LANES * rounds) as i64 {
        let click = json(&clicks, 1, offset);
        sessions.entry(click["session_id"].as_str().unwrap().to_owned()).or_default().push(click);
    }
    assert_eq!(sessions.len() as u64, LANES * rounds / 12);
    let (mut buys, mut lengths) = (0, BTreeMap::new());
    for (session, events) in &sessions {
        *lengths.entry(events.len()).or_insert(0) += 1;
        assert_eq!(events[0]["event_type"], "page_view", "{session}");
        for event in events {
            for field in ["user_id", "country", "device", "utm"] {
                assert_eq!(event[field], events[0][field], "{session}");
            }
        }
        let cart = events.iter().position(|event| event["event_type"] == "add_to_cart");
        if let Some(cart) = cart {
            assert_eq!(events[cart - 1]["event_type"], "product_view", "{session}");
            assert_eq!(events[cart - 1]["product_id"], events[cart]["product_id"], "{session}");
        }
        if let Some(bought) = events.iter().find(|event| event["event_type"] == "purchase") {
            buys += 1;
            let cart = &events[cart.expect("a purchase follows a cart")];
            assert_eq!(
                (&bought["product_id"], &bought["quantity"]),
                (&cart["product_id"], &cart["quantity"])
            );
            assert_eq!(bought["price"], cart["price"], "{session}");
        }
        let user: u32 = events[0]["user_id"].as_str().unwrap()[2..].parse().unwrap();
        assert!(user < USERS && user % 2 == 1, "user {user} in partition 1 of 2");
    }
    assert!(lengths.keys().all(|len| (4..=20).contains(len)) && lengths.len() == 17, "{lengths:?}");
    let share = f64::from(buys) / sessions.len() as f64;
    assert!((0.22..0.28).contains(&share), "{share} of the sessions buy");
}

#[test]
fn event_ids_are_distinct_over_partitions() {
    let clicks = Clicks::new(3, 2, None, None);
    let mut ids: Vec<String> =
        (0..40_000).map(|i| click(&clicks, (i % 2) as i32, i / 2)[13..49].to_owned()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 40_000);
}

#[test]
fn event_times_lag_arrival_as_promised() {
    let clicks = Clicks::new(5, 1, Some(1000.0), None);
    let n = 50_000;
    let (mut short, mut medium, mut long) = (0, 0, 0);
    for offset in 0..n {
        let arrival = clicks.arrival(PartitionId(0), offset);
        assert_eq!(arrival, START + offset * 1000);
        let lag = arrival - event_micros(&json(&clicks, 0, offset));
        assert!((0..=5_000_000).contains(&lag), "a lag of {lag} µs");
        match lag / 1000 {
            ..=200 => short += 1,
            201..=2000 => medium += 1,
            _ => long += 1,
        }
    }
    let share = |count: i32| f64::from(count) / n as f64;
    assert!((0.89..0.91).contains(&share(short)), "{short}");
    assert!((0.085..0.095).contains(&share(medium)), "{medium}");
    assert!((0.008..0.012).contains(&share(long)), "{long}");
}

#[test]
fn first_at_inverts_arrival() {
    for rate in [0.3, 7.0, 19_999.0, 3e6] {
        let clicks = Clicks::new(5, 3, Some(rate), Some(1_700_000_000_123_456));
        let partition = PartitionId(2);
        for offset in [0, 1, 2, 1000, 98_765_432] {
            let arrival = clicks.arrival(partition, offset);
            let first = clicks.first_at(partition, arrival);
            assert!(
                first <= offset && clicks.arrival(partition, first) == arrival,
                "{rate} {offset} {first}"
            );
            assert!(first == 0 || clicks.arrival(partition, first - 1) < arrival, "{rate} {offset} {first}");
        }
        assert_eq!(clicks.first_at(partition, i64::MIN), 0);
        assert!(clicks.first_at(partition, i64::MAX) > 98_765_432);
    }
}

#[test]
fn dates_are_right() {
    for (micros, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400_000_000, "2000-02-29T00:00:00.000Z"),
        (1_748_736_004_871_999, "2025-06-01T00:00:04.871Z"),
        (4_107_542_399_999_000, "2100-02-28T23:59:59.999Z"),
        (4_107_542_400_000_000, "2100-03-01T00:00:00.000Z"),
    ] {
        assert_eq!(std::str::from_utf8(&rfc3339_millis(micros)).unwrap(), text);
    }
}
