//! A topic that was deleted and created again is another topic.

use std::sync::Arc;

use anyhow::Result;
use thalweg_engine::ErrorKind;

use super::{Topic, failure, read_to_end, rows};

#[test]
fn a_topic_created_anew_stops_the_reader() -> Result<()> {
    let topic = Topic::create("anew", 1)?;
    topic.produce(&topic.producer("none")?, 0, 0..100)?;
    let mut reader = topic.reader(&[(0, 0)])?;
    assert_eq!(rows(&read_to_end(&mut *reader, 1)?.0, 0).len(), 100);
    topic.delete()?;
    let topic = Topic::create_on(Arc::clone(&topic.kafka), topic.name, 1)?;
    topic.produce(&topic.producer("none")?, 0, 0..10)?;
    for reader in [&mut reader, &mut topic.reader(&[(0, 100)])?] {
        let error = failure(&mut **reader)?;
        assert_eq!(error.kind(), ErrorKind::BadData);
        let numbers = "partition=0, wanted offset=100, first available=0, end=10";
        assert!(error.to_string().contains(numbers), "{error}");
    }
    Ok(())
}
