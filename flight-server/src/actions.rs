//! Actions: prepared statements, cancelling, session options. Each takes one message and answers with at most one.
//!
//! arrow-flight has no messages for session options, nor the field `is_update`; they are declared here as the
//! protocol defines them.

use std::collections::HashMap;

use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionCreatePreparedStatementRequest, Any, Command,
    ProstMessageExt,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo,
    RenewFlightEndpointRequest,
};
use bytes::Bytes;
use prost::Message;
use tonic::Status;

use crate::handle::Handle;
use crate::service::{Service, decode_command, packed};
use crate::session::{Session, Unset};
use crate::wire;

/// Every action, with the words that ListActions shows.
pub(crate) const NAMES: [(&str, &str); 8] = [
    ("CreatePreparedStatement", "Plans a statement and returns a handle for it."),
    ("ClosePreparedStatement", "Forgets a handle. Nothing is held for one, so this is a courtesy."),
    ("CancelFlightInfo", "Stops the query that a FlightInfo started."),
    ("CancelQuery", "CancelFlightInfo in its older form."),
    ("RenewFlightEndpoint", "Returns the endpoint as it is: tickets do not expire."),
    (
        "SetSessionOptions",
        "Sets catalog, schema, compression (none, lz4, zstd), timestamp_unit (planned, ns), query_time, query_memory, query_rows.",
    ),
    ("GetSessionOptions", "Returns the session options."),
    ("CloseSession", "Says goodbye. A session ends with its connection."),
];

pub(crate) async fn answer(
    service: &Service,
    session: &Session,
    action: Action,
) -> Result<Vec<Vec<u8>>, Status> {
    let body = &action.body;
    Ok(match action.r#type.as_str() {
        "CreatePreparedStatement" => {
            vec![prepare(service, session, unpack(body)?).await?]
        }
        "ClosePreparedStatement" => vec![],
        "CancelFlightInfo" => {
            let request: CancelFlightInfoRequest = decode(body)?;
            let info =
                request.info.ok_or_else(|| Status::invalid_argument("nothing to cancel: no FlightInfo"))?;
            let status = cancel(service, &info)? as i32;
            vec![CancelFlightInfoResult { status }.encode_to_vec()]
        }
        "CancelQuery" => {
            let request: ActionCancelQueryRequest = unpack(body)?;
            // The numbers of CancelResult and CancelStatus are the same.
            let result = cancel(service, &decode(&request.info)?)? as i32;
            vec![packed(&ActionCancelQueryResult { result })]
        }
        "RenewFlightEndpoint" => {
            let request: RenewFlightEndpointRequest = decode(body)?;
            vec![request.endpoint.unwrap_or_default().encode_to_vec()]
        }
        "SetSessionOptions" => vec![set_options(service, session, decode(body)?).await?],
        "GetSessionOptions" => {
            let options = session.options().into_iter().map(|(name, value)| (name, OptionValue::text(value)));
            vec![GetSessionOptionsResult { session_options: options.collect() }.encode_to_vec()]
        }
        "CloseSession" => vec![CloseSessionResult { status: SESSION_CLOSED }.encode_to_vec()],
        "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => {
            return Err(Status::unimplemented("there are no transactions: each statement stands for itself"));
        }
        other => return Err(Status::unimplemented(format!("unknown action. action={other:?}"))),
    })
}

/// As arrow-flight's `ActionCreatePreparedStatementResult`, with the field that it lacks.
#[derive(Clone, PartialEq, Message)]
struct CreatePreparedStatementResult {
    #[prost(bytes = "bytes", tag = "1")]
    prepared_statement_handle: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    dataset_schema: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    parameter_schema: Bytes,
    #[prost(bool, optional, tag = "4")]
    is_update: Option<bool>,
}

async fn prepare(
    service: &Service,
    session: &Session,
    request: ActionCreatePreparedStatementRequest,
) -> Result<Vec<u8>, Status> {
    let handle = Handle::new(request.query, session.settings());
    let prepared = service.plan(&handle).await?;
    let profile = handle.profile();
    let schema = |schema| wire::schema_bytes(&wire::wire_schema(schema, &profile));
    let result = CreatePreparedStatementResult {
        dataset_schema: prepared.rows.as_deref().map(schema).transpose()?.unwrap_or_default(),
        parameter_schema: schema(&prepared.parameters)?,
        is_update: Some(prepared.rows.is_none()),
        prepared_statement_handle: handle.encode(&service.seal),
    };
    let type_url = arrow_flight::sql::ActionCreatePreparedStatementResult::type_url().to_owned();
    Ok(Any { type_url, value: result.encode_to_vec().into() }.encode_to_vec())
}

/// The query is known by the ticket of its first endpoint, which is its only one.
fn cancel(service: &Service, info: &FlightInfo) -> Result<CancelStatus, Status> {
    let ticket = info.endpoint.first().and_then(|endpoint| endpoint.ticket.as_ref());
    let Some(ticket) = ticket else { return Ok(CancelStatus::NotCancellable) };
    match decode_command(&ticket.ticket)? {
        Command::TicketStatementQuery(statement) => {
            let handle = Handle::decode(&statement.statement_handle, &service.seal)?;
            if service.running.cancel(&handle.query) {
                Ok(CancelStatus::Cancelled)
            } else {
                Err(Status::not_found("this query is not running"))
            }
        }
        _ => Ok(CancelStatus::NotCancellable),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OptionValue {
    #[prost(oneof = "OptionKind", tags = "1, 2, 3, 4, 5")]
    kind: Option<OptionKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum OptionKind {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(sfixed64, tag = "3")]
    Integer(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    List(StringList),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StringList {
    #[prost(string, repeated, tag = "1")]
    pub values: Vec<String>,
}

impl OptionValue {
    pub fn text(value: String) -> Self {
        OptionValue { kind: Some(OptionKind::Text(value)) }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SetSessionOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    pub session_options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    pub errors: HashMap<String, OptionError>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OptionError {
    #[prost(int32, tag = "1")]
    pub value: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    pub session_options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, Message)]
struct CloseSessionResult {
    #[prost(int32, tag = "1")]
    status: i32,
}

pub(crate) const INVALID_NAME: i32 = 1;
pub(crate) const INVALID_VALUE: i32 = 2;
const SESSION_CLOSED: i32 = 1;

async fn set_options(
    service: &Service,
    session: &Session,
    request: SetSessionOptionsRequest,
) -> Result<Vec<u8>, Status> {
    let schemas = service.backend.schemas().await?;
    let mut errors = HashMap::new();
    for (name, value) in request.session_options {
        let set = match value.kind {
            Some(OptionKind::Text(text)) => session.set(&name, &text, &schemas),
            _ => Err(Unset::BadValue("it is a text".to_owned())),
        };
        if let Err(reason) = set {
            let value = match reason {
                Unset::UnknownName => INVALID_NAME,
                Unset::BadValue(_) => INVALID_VALUE,
            };
            errors.insert(name, OptionError { value });
        }
    }
    Ok(SetSessionOptionsResult { errors }.encode_to_vec())
}

fn decode<M: Message + Default>(body: &[u8]) -> Result<M, Status> {
    M::decode(body)
        .map_err(|error| Status::invalid_argument(format!("cannot read the action's message: {error}")))
}

fn unpack<M: ProstMessageExt>(body: &[u8]) -> Result<M, Status> {
    let any: Any = decode(body)?;
    any.unpack().map_err(|error| Status::invalid_argument(error.to_string()))?.ok_or_else(|| {
        Status::invalid_argument(format!("the action wants another message. got={:?}", any.type_url))
    })
}
