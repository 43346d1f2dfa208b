//! What decoding costs beside arrow-json, on one core: `cargo bench --bench decode`.
//!
//! Both decode the same records into the same columns. arrow-json is given the wanted columns alone and checks no others;
//! the decoder checks all eleven.

use std::hint::black_box;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow_json::ReaderBuilder;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use thalweg_decoder::decode::Decoder;
use thalweg_decoder::samples::{SHOPS, Seed, click, click_schema, object, shop_event, shops_schema};
use thalweg_decoder::source::Records;

const RECORDS: usize = 16 * 1024;

struct Case {
    name: &'static str,
    schema: SchemaRef,
    wanted: Vec<usize>,
    events: Vec<String>,
}

fn cases() -> Vec<Case> {
    let events = |mut event: Box<dyn FnMut(&mut Seed) -> String>| {
        let mut seed = Seed(7);
        (0..RECORDS).map(|_| event(&mut seed)).collect::<Vec<_>>()
    };
    let columns = |schema: &SchemaRef, names: &[&str]| {
        let mut columns: Vec<usize> =
            names.iter().map(|name| schema.index_of(name).expect("a column")).collect();
        columns.sort_unstable();
        columns
    };
    let (clicks, shops) = (click_schema(), shops_schema());
    let five = columns(&clicks, &["event_type", "event_ts", "session_id", "product_id", "price"]);
    let steady = events(Box::new(|seed| object(&click(seed))));
    let mixed = events(Box::new(|seed| object(&shop_event(seed.below(SHOPS), seed))));
    let shuffled = events(Box::new(|seed| {
        let mut entries = click(seed);
        seed.shuffle(&mut entries);
        object(&entries)
    }));
    let spaced = events(Box::new(|seed| {
        let entries: Vec<_> =
            click(seed).into_iter().map(|(key, value)| (key, format!(" {value}"))).collect();
        object(&entries).replace(",\"", ", \"")
    }));
    let case = |name, schema: &SchemaRef, wanted: &[usize], events: &[String]| Case {
        name,
        schema: Arc::clone(schema),
        wanted: wanted.to_vec(),
        events: events.to_vec(),
    };
    let every: Vec<usize> = (0..clicks.fields().len()).collect();
    let mixed_five = columns(&shops, &["event_type", "user_id", "price", "timestamp", "event_ts"]);
    vec![
        case("steady, 5 of 11 columns", &clicks, &five, &steady),
        case("steady, all 11 columns", &clicks, &every, &steady),
        case("five shapes mixed, 5 columns", &shops, &mixed_five, &mixed),
        case("keys shuffled, 5 of 11 columns", &clicks, &five, &shuffled),
        case("steady with spaces, 5 of 11 columns", &clicks, &five, &spaced),
        case("steady, no column", &clicks, &[], &steady),
    ]
}

fn decoding(criterion: &mut Criterion) {
    for case in cases() {
        let mut records = Records::default();
        case.events.iter().for_each(|event| records.push(Some(event.as_bytes())));
        let lines = case.events.join("\n");
        let wanted = Arc::new(case.schema.project(&case.wanted).expect("columns of the schema"));

        let mut group = criterion.benchmark_group(case.name);
        group.throughput(Throughput::Bytes(records.bytes.len() as u64));
        let mut decoder =
            Decoder::new(Arc::clone(&case.schema), &case.wanted).expect("types that JSON can hold");
        group.bench_function("thalweg", |bencher| {
            bencher.iter(|| {
                let decoded = decoder.decode(black_box(&records)).expect("a batch");
                assert_eq!(decoded.batch.num_rows(), RECORDS);
                decoded
            })
        });
        let mut decoder =
            ReaderBuilder::new(wanted).with_batch_size(RECORDS).build_decoder().expect("a decoder");
        group.bench_function("arrow-json", |bencher| {
            bencher.iter(|| {
                decoder.decode(black_box(lines.as_bytes())).expect("legal JSON");
                let batch = decoder.flush().expect("legal JSON").expect("rows");
                assert_eq!(batch.num_rows(), RECORDS);
                batch
            })
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = decoding
}
criterion_main!(benches);
