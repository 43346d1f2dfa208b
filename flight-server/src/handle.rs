//! A statement as a message that the client holds: the text of a prepared statement with its bound parameters, and
//! the ticket that fetches the rows.
//!
//! Nothing is kept on the server for either, so nothing has to be closed, bounded or replicated, and a ticket may be
//! fetched again. A forged handle can do no more than the statement text in it.

use bytes::Bytes;
use prost::Message;
use tonic::Status;

use crate::backend::Scope;
use crate::session::Settings;
use crate::wire::Profile;

/// First bytes of a handle, so that a foreign one is told apart; the last is the version of the layout.
const MAGIC: &[u8] = b"tw\x01";

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
    /// The answer goes on until somebody ends it.
    #[prost(bool, tag = "10")]
    pub is_endless: bool,
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
            ..Handle::default()
        }
    }

    pub fn scope(&self) -> Scope {
        Scope { catalog: self.catalog.clone(), schema: self.schema.clone(), client: self.client.clone() }
    }

    pub fn profile(&self) -> Profile {
        Profile { compression: self.compression.clone(), nanoseconds: self.nanoseconds }
    }

    pub fn encode(&self) -> Bytes {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.encode_to_vec());
        bytes.into()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Status> {
        let unknown = || Status::invalid_argument("this statement handle is not one of this server");
        let body = bytes.strip_prefix(MAGIC).ok_or_else(unknown)?;
        <Handle as Message>::decode(body).map_err(|_| unknown())
    }
}
