//! A statement as a message that the client holds: the text of a prepared statement with its bound parameters, and
//! the ticket that fetches the rows.
//!
//! Nothing is kept on the server for either, so nothing has to be closed, bounded or replicated, and a ticket may be
//! fetched again. What comes back is believed, lengths and schemas in it included, because it is what was given out: each
//! carries a code that only this process can make.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use ring::hmac;
use ring::rand::SystemRandom;
use thalweg_sql::session::SessionLimits;
use tonic::Status;

use crate::backend::Scope;
use crate::session::Settings;
use crate::wire::Profile;

/// First bytes of a handle, so that a foreign one is told apart; the last is the version of the layout.
const MAGIC: &[u8] = b"tw\x02";
const CODE_BYTES: usize = 32;

/// Made when the server starts, and known to nobody else: a restart makes all handles foreign.
#[derive(Debug, Clone)]
pub(crate) struct Seal(hmac::Key);

impl Seal {
    pub fn new() -> Seal {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Seal(key.expect("the system has random numbers, or TLS would not work either"))
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Handle {
    #[prost(string, tag = "1")]
    pub sql: String,
    #[prost(string, tag = "2")]
    pub catalog: String,
    #[prost(string, tag = "3")]
    pub schema: String,
    /// Bound parameters, an Arrow IPC stream; empty: none.
    #[prost(bytes = "bytes", tag = "4")]
    pub parameters: Bytes,
    /// What was advertised in FlightInfo, an encapsulated IPC schema. The rows are sent with exactly this one.
    #[prost(bytes = "bytes", tag = "5")]
    pub advertised: Bytes,
    /// Names the query to CancelFlightInfo.
    #[prost(bytes = "bytes", tag = "6")]
    pub query: Bytes,
    #[prost(string, tag = "7")]
    pub compression: String,
    #[prost(bool, tag = "8")]
    pub nanoseconds: bool,
    /// What the client calls itself.
    #[prost(string, optional, tag = "9")]
    pub client: Option<String>,
    /// Limits of the session.
    #[prost(uint64, optional, tag = "10")]
    pub query_micros: Option<u64>,
    #[prost(uint64, optional, tag = "11")]
    pub query_memory_bytes: Option<u64>,
    #[prost(uint64, optional, tag = "12")]
    pub query_rows: Option<u64>,
}

impl Handle {
    pub fn new(sql: String, settings: Settings) -> Self {
        Handle {
            sql,
            catalog: settings.scope.catalog,
            schema: settings.scope.schema,
            client: settings.scope.client,
            compression: settings.profile.compression,
            nanoseconds: settings.profile.nanoseconds,
            query_micros: settings.scope.limits.query_time.map(|time| time.as_micros() as u64),
            query_memory_bytes: settings.scope.limits.query_memory_bytes.map(|bytes| bytes as u64),
            query_rows: settings.scope.limits.query_rows,
            ..Handle::default()
        }
    }

    pub fn scope(&self) -> Scope {
        let limits = SessionLimits {
            query_time: self.query_micros.map(Duration::from_micros),
            query_memory_bytes: self.query_memory_bytes.map(|bytes| bytes as usize),
            query_rows: self.query_rows,
        };
        let (catalog, schema) = (self.catalog.clone(), self.schema.clone());
        Scope { catalog, schema, client: self.client.clone(), limits }
    }

    pub fn profile(&self) -> Profile {
        Profile { compression: self.compression.clone(), nanoseconds: self.nanoseconds }
    }

    pub fn encode(&self, seal: &Seal) -> Bytes {
        let body = self.encode_to_vec();
        let code = hmac::sign(&seal.0, &body);
        [MAGIC, code.as_ref(), &body].concat().into()
    }

    pub fn decode(bytes: &[u8], seal: &Seal) -> Result<Self, Status> {
        let unknown = || {
            Status::invalid_argument(
                "this statement handle is not one of this server; prepare the statement again, for it may have been restarted",
            )
        };
        let sealed = bytes.strip_prefix(MAGIC).ok_or_else(unknown)?;
        let (code, body) = sealed.split_at_checked(CODE_BYTES).ok_or_else(unknown)?;
        hmac::verify(&seal.0, body, code).map_err(|_| unknown())?;
        <Handle as Message>::decode(body).map_err(|_| unknown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_that_was_not_given_out_is_foreign_whatever_is_in_it() {
        let seal = Seal::new();
        let handle = Handle { sql: "SELECT 1".to_owned(), ..Handle::default() };
        let given = handle.encode(&seal);
        assert_eq!(Handle::decode(&given, &seal).unwrap(), handle);
        assert!(Handle::decode(&given, &Seal::new()).is_err());
        for at in 0..given.len() {
            let mut changed = given.to_vec();
            changed[at] ^= 1;
            assert!(Handle::decode(&changed, &seal).is_err(), "byte {at}");
            assert!(Handle::decode(&given[..at], &seal).is_err(), "the first {at} bytes");
        }
    }
}
