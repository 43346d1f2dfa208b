//! Sends on what waited while the broker was away: each batch is a transaction, and with it goes the place in the spool that
//! it comes to. So whoever died between a commit and the word of it is told by the broker how far they came.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use super::transactions::{Patience, Sending, Transactions};
use crate::Result;
use crate::ids::Micros;
use crate::spec::KafkaSpec;

/// Longer than an election takes; who does not answer by then is asked again.
const PATIENCE: Patience = Patience {
    answers: Duration::from_secs(5),
    first: Duration::from_secs(5),
    record: Duration::from_secs(5),
    transaction: Duration::from_secs(10),
};

pub(crate) struct Courier(Transactions);

/// A record as it was put into the spool.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub timestamp: Micros,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
}

impl Courier {
    /// Takes over from whoever went by this name: what they have not committed is undone, and they can commit no more. Gives
    /// the place that the last committed batch came to.
    pub fn open(spec: &KafkaSpec, id: &str) -> Result<(Courier, Option<i64>)> {
        let (transactions, written) = Transactions::open_resolved(spec, id, Uuid::nil(), PATIENCE)?;
        Ok((Courier(transactions), written.map(|written| written.place)))
    }

    /// All of them are in the topic, and the place is known, or nothing of it. After an error nobody knows which, until
    /// it is opened anew.
    pub fn carry(&self, parcels: &[Parcel], place: i64) -> Result<()> {
        self.0.begin()?;
        for Parcel { timestamp, key, value } in parcels {
            self.0.send(&Sending {
                partition: None,
                key: key.as_deref(),
                value: Some(value),
                timestamp: Some(*timestamp),
                headers: &BTreeMap::new(),
            })?;
        }
        self.0.commit(place)
    }
}
