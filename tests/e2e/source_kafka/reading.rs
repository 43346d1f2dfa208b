//! What is read, in which order, and what stops it.

use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::admin::{AdminOptions, NewPartitions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use thalweg_engine::ErrorKind;
use thalweg_engine::ids::{Offset, PartitionId};
use thalweg_engine::source::{Polled, RawBatch};
use thalweg_engine::spec::Start;
use thalweg_tests::servers::Kafka;

use super::{LIMIT, Topic, WITHIN, block_on, failure, read_to_end, rows, until, value};

#[test]
fn every_compression_is_read_from_any_offset() -> Result<()> {
    let topic = Topic::create("compressed", 2)?;
    for (codec, from) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().zip((0..).step_by(1000)) {
        topic.produce(&topic.producer(codec)?, 0, from..from + 1000)?;
    }
    topic.produce(&topic.producer("none")?, 1, 0..10)?;
    for from in [0, 1, 999, 1000, 2500, 4999, 5000] {
        let mut reader = topic.reader(&[(0, from), (1, 7)])?;
        let (batches, ends) = read_to_end(&mut *reader, 2)?;
        let expected: Vec<_> = (from..5000).map(|number| (number, Some(value(number)))).collect();
        assert_eq!(rows(&batches, 0), expected, "from {from}");
        assert_eq!(rows(&batches, 1).len(), 3);
        assert_eq!(ends, [(0, 5000), (1, 10)].into());
        let mut known = reader.ends();
        known.sort();
        assert_eq!(known, [(PartitionId(0), Offset(5000)), (PartitionId(1), Offset(10))]);
        for batch in &batches {
            for (index, offset) in batch.offsets.iter().enumerate() {
                assert_eq!(batch.timestamps[index], (1000 + offset) * 1000);
                assert_eq!(batch.keys[index].as_deref(), Some(offset.to_string().as_bytes()));
            }
        }
    }
    Ok(())
}

#[test]
fn a_tombstone_is_not_an_empty_value() -> Result<()> {
    let topic = Topic::create("tombstones", 1)?;
    let producer = topic.producer("none")?;
    producer
        .send(BaseRecord::<[u8], [u8]>::to(topic.name).partition(0).key(b"k"))
        .map_err(|(error, _)| error)?;
    producer
        .send(BaseRecord::<[u8], [u8]>::to(topic.name).partition(0).payload(b""))
        .map_err(|(error, _)| error)?;
    producer.flush(WITHIN)?;
    let (batches, _) = read_to_end(&mut *topic.reader(&[(0, 0)])?, 1)?;
    assert_eq!(rows(&batches, 0), [(0, None), (1, Some(String::new()))]);
    let keys: Vec<_> = batches.iter().flat_map(|batch| batch.keys.clone()).collect();
    assert_eq!(keys, [Some(b"k".to_vec()), None]);
    Ok(())
}

#[test]
fn a_large_record_comes_whole() -> Result<()> {
    let topic = Topic::create("large", 1)?;
    let producer: BaseProducer = topic.config().set("message.max.bytes", "19000000").create()?;
    let large = vec![b'x'; 15_000_000];
    for payload in [b"small".as_slice(), &large, b"small"] {
        producer
            .send(BaseRecord::<[u8], [u8]>::to(topic.name).payload(payload))
            .map_err(|(error, _)| error)?;
    }
    producer.flush(WITHIN)?;
    let (batches, _) = read_to_end(&mut *topic.reader(&[(0, 0)])?, 1)?;
    let lengths: Vec<_> = rows(&batches, 0).iter().map(|(_, value)| value.as_ref().unwrap().len()).collect();
    assert_eq!(lengths, [5, large.len(), 5]);
    Ok(())
}

#[test]
fn aborted_transactions_are_gaps_and_an_open_one_is_no_end() -> Result<()> {
    let topic = Topic::create("transactions", 1)?;
    let producer: BaseProducer = topic.config().set("transactional.id", "transactions").create()?;
    producer.init_transactions(WITHIN)?;
    producer.begin_transaction()?;
    topic.produce(&producer, 0, 0..5)?; // 0 to 4, and a marker at 5
    producer.commit_transaction(WITHIN)?;
    producer.begin_transaction()?;
    topic.produce(&producer, 0, 100..103)?; // 6 to 8, and a marker at 9
    producer.abort_transaction(WITHIN)?;

    let mut reader = topic.reader(&[(0, 0)])?;
    let (batches, ends) = read_to_end(&mut *reader, 1)?;
    assert_eq!(rows(&batches, 0).len(), 5);
    assert_eq!(ends, [(0, 10)].into(), "the end is past the gap of the aborted transaction");

    producer.begin_transaction()?;
    topic.produce(&producer, 0, 5..7)?; // 10 and 11, and a marker at 12
    let mut from_inside = topic.reader(&[(0, 6)])?;
    // Ten answers of the broker, which waits 100 ms for records that it may show.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        for reader in [&mut reader, &mut from_inside] {
            let polled = reader.poll(&mut RawBatch::default(), LIMIT, Duration::from_millis(50))?;
            assert_eq!(polled, Polled::Nothing, "an open transaction gives neither rows nor an end");
        }
    }
    assert_eq!(from_inside.ends(), [(PartitionId(0), Offset(12))]);
    producer.commit_transaction(WITHIN)?;
    for reader in [&mut reader, &mut from_inside] {
        let (batches, ends) = read_to_end(&mut **reader, 1)?;
        assert_eq!(rows(&batches, 0), [(10, Some(value(5))), (11, Some(value(6)))]);
        assert_eq!(ends, [(0, 13)].into());
    }
    Ok(())
}

#[test]
fn starts_resolve_to_offsets() -> Result<()> {
    let topic = Topic::create("starts", 2)?;
    topic.produce(&topic.producer("none")?, 1, 0..100)?;
    let mut discovery = topic.discovery()?;
    let mut resolve =
        |partition, start| discovery.resolve(PartitionId(partition), start).map(|offset| offset.0);
    assert_eq!(resolve(0, Start::Earliest)?, 0);
    assert_eq!(resolve(0, Start::Latest)?, 0);
    assert_eq!(resolve(0, Start::Timestamp(5))?, 0);
    assert_eq!(resolve(1, Start::Earliest)?, 0);
    assert_eq!(resolve(1, Start::Latest)?, 100);
    assert_eq!(resolve(1, Start::Timestamp(1_040_000))?, 40);
    assert_eq!(resolve(1, Start::Timestamp(1_040_001))?, 41);
    assert_eq!(resolve(1, Start::Timestamp(-5))?, 0);
    assert_eq!(resolve(1, Start::Timestamp(2_000_000_000_000_000))?, 100);
    let ranges = discovery.partitions()?;
    let ranges: Vec<_> = ranges.iter().map(|range| (range.partition.0, range.first.0, range.end.0)).collect();
    assert_eq!(ranges, [(0, 0, 0), (1, 0, 100)]);
    Ok(())
}

#[test]
fn a_lost_range_stops_with_its_numbers() -> Result<()> {
    let topic = Topic::create("trimmed", 1)?;
    topic.produce(&topic.producer("none")?, 0, 0..100)?;
    let mut trim = TopicPartitionList::new();
    trim.add_partition_offset(topic.name, 0, KafkaOffset::Offset(60))?;
    block_on(topic.admin()?.delete_records(&trim, &AdminOptions::new()))?;

    assert_eq!(topic.discovery()?.partitions()?[0].first, Offset(60));
    for (wanted, reason) in [(20, "offsets 20 to 59 were deleted"), (101, "the partition ends before it")] {
        let error = failure(&mut *topic.reader(&[(0, wanted)])?)?;
        assert_eq!(error.kind(), ErrorKind::BadData);
        let numbers = format!("partition=0, wanted offset={wanted}, first available=60, end=100");
        let text = error.to_string();
        assert!(
            text.contains("topic=\"trimmed\"") && text.contains(&numbers) && text.contains(reason),
            "{text}"
        );
    }
    let (batches, _) = read_to_end(&mut *topic.reader(&[(0, 60)])?, 1)?;
    assert_eq!(rows(&batches, 0).len(), 40);
    Ok(())
}

#[test]
fn new_partitions_are_found_and_added() -> Result<()> {
    let topic = Topic::create("growing", 1)?;
    let producer = topic.producer("none")?;
    topic.produce(&producer, 0, 0..10)?;
    let mut discovery = topic.discovery()?;
    let mut reader = topic.reader(&[(0, 0)])?;
    assert_eq!(rows(&read_to_end(&mut *reader, 1)?.0, 0).len(), 10);

    let more = NewPartitions::new(topic.name, 3);
    for result in block_on(topic.admin()?.create_partitions([&more], &AdminOptions::new()))? {
        result.map_err(|(name, code)| anyhow::anyhow!("{name} did not grow: {code}"))?;
    }
    until("the new partitions are found", || Ok(discovery.partitions().is_ok_and(|found| found.len() == 3)))?;
    let producer = topic.producer("none")?;
    for partition in 0..3 {
        topic.produce(&producer, partition, 10..15)?;
    }
    reader.add(PartitionId(1), Offset(0))?;
    reader.add(PartitionId(2), Offset(3))?;
    let (mut batches, mut first) = (Vec::new(), 0);
    // The old partition goes on where it was, untouched by the new ones.
    until("all rows are there", || {
        let mut batch = RawBatch::default();
        if let Polled::Records { .. } = reader.poll(&mut batch, LIMIT, Duration::from_millis(100))? {
            if let Some((_, range)) = batch.ranges().find(|(id, _)| id.0 == 0 && first == 0) {
                first = batch.offsets[range.start];
            }
            batches.push(batch);
        }
        Ok(batches.iter().map(RawBatch::len).sum::<usize>() == 12)
    })?;
    assert_eq!(first, 10);
    let counts: Vec<_> = (0..3).map(|partition| rows(&batches, partition).len()).collect();
    assert_eq!(counts, [5, 5, 2]);
    Ok(())
}

#[test]
fn a_missing_topic_is_invalid() -> Result<()> {
    let topic = Topic { kafka: Kafka::shared()?, name: "missing" };
    let error = topic.discovery()?.partitions().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error.to_string().starts_with("the topic does not exist. ")
            && error.to_string().contains("\"missing\"")
    );
    Ok(())
}

#[test]
fn offsets_are_published_for_people() -> Result<()> {
    let topic = Topic::create("published", 2)?;
    topic.produce(&topic.producer("none")?, 1, 0..10)?;
    let mut discovery = topic.discovery()?;
    discovery.publish(&[(PartitionId(0), Offset(0)), (PartitionId(1), Offset(7))]);
    let person: BaseConsumer = topic.config().set("group.id", "thalweg-published").create()?;
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic.name, 1);
    until("the group has the offset", || {
        let committed = person.committed_offsets(asked.clone(), WITHIN)?;
        Ok(committed.elements()[0].offset() == KafkaOffset::Offset(7))
    })?;
    // What is published is not where a reader begins.
    assert_eq!(rows(&read_to_end(&mut *topic.reader(&[(1, 0)])?, 1)?.0, 1).len(), 10);
    Ok(())
}
