//! Every call of the Flight protocol, each one `match` from its duty.
//!
//! arrow-flight's own `FlightSqlService` leaves out `GetSchema`, `PollFlightInfo` and `ListFlights`, so the protocol is
//! implemented directly: the commands are one closed set.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{Any, Command, DoPutPreparedStatementResult, DoPutUpdateResult, ProstMessageExt};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::{self, BoxStream, StreamExt};
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use crate::backend::{Backend, Table};
use crate::handle::{Handle, Seal};
use crate::running::Running;
use crate::session::Session;
use crate::wire::{self, Profile};
use crate::{actions, bind, metadata};

type Answered<T> = Result<Response<T>, Status>;
type Messages<T> = BoxStream<'static, Result<T, Status>>;

pub(crate) struct Service {
    pub backend: Arc<dyn Backend>,
    pub running: Running,
    pub seal: Seal,
}

impl Service {
    pub fn new(backend: Arc<dyn Backend>, running: Running) -> Self {
        Service { backend, running, seal: Seal::new() }
    }

    pub fn session<T>(&self, request: &Request<T>) -> Session {
        let session =
            Session::of(request.extensions()).unwrap_or_else(|| Session::new(self.backend.defaults()));
        if let Some(name) = request.metadata().get("user-agent").and_then(|name| name.to_str().ok()) {
            session.name_client(name);
        }
        session
    }

    /// What a descriptor asks for. A path names a table.
    fn command(&self, descriptor: &FlightDescriptor) -> Result<Wanted, Status> {
        if descriptor.r#type() == DescriptorType::Path {
            let quoted: Vec<_> = descriptor.path.iter().map(|part| quoted(part)).collect();
            return Ok(Wanted::Statement(format!("SELECT * FROM {}", quoted.join("."))));
        }
        Ok(match decode_command(&descriptor.cmd)? {
            Command::CommandStatementQuery(query) => Wanted::Statement(query.query),
            Command::CommandPreparedStatementQuery(query) => {
                Wanted::Prepared(Handle::decode(&query.prepared_statement_handle, &self.seal)?)
            }
            other => Wanted::Metadata(other),
        })
    }

    async fn info(&self, descriptor: FlightDescriptor, session: &Session) -> Result<FlightInfo, Status> {
        let info = match self.command(&descriptor)? {
            Wanted::Statement(sql) => {
                self.statement_info(session, Handle::new(sql, session.settings())).await?
            }
            Wanted::Prepared(handle) => self.statement_info(session, handle).await?,
            Wanted::Metadata(command) => {
                let ticket = Ticket::new(descriptor.cmd.clone());
                let batch = metadata::answer(&*self.backend, command).await?;
                FlightInfo { schema: wire::schema_bytes(batch.schema_ref())?, ..FlightInfo::new() }
                    .with_endpoint(FlightEndpoint::new().with_ticket(ticket))
            }
        };
        Ok(info.with_descriptor(descriptor))
    }

    /// Metadata goes out as arrow-flight builds it: clients know these schemas by heart.
    fn metadata_rows(batch: RecordBatch) -> Result<Messages<FlightData>, Status> {
        wire::encode(
            batch.schema(),
            &Profile::default(),
            stream::once(async move { Ok(wire::Piece::Rows(batch)) }),
        )
    }

    fn table_info(table: &Table) -> Result<FlightInfo, Status> {
        let path = [&table.catalog, &table.schema, &table.name].map(Clone::clone).to_vec();
        let schema = wire::wire_schema(&table.columns, &Profile::default());
        Ok(FlightInfo { schema: wire::schema_bytes(&schema)?, ..FlightInfo::new() }
            .with_descriptor(FlightDescriptor::new_path(path)))
    }
}

enum Wanted {
    Statement(String),
    Prepared(Handle),
    Metadata(Command),
}

#[tonic::async_trait]
impl FlightService for Service {
    type HandshakeStream = Messages<HandshakeResponse>;
    type ListFlightsStream = Messages<FlightInfo>;
    type DoGetStream = Messages<FlightData>;
    type DoPutStream = Messages<PutResult>;
    type DoActionStream = Messages<arrow_flight::Result>;
    type ListActionsStream = Messages<ActionType>;
    type DoExchangeStream = Messages<FlightData>;

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Answered<Self::HandshakeStream> {
        Err(Status::unimplemented("this server knows no users; connect without user and password"))
    }

    /// The tables, each by its path.
    async fn list_flights(&self, _: Request<Criteria>) -> Answered<Self::ListFlightsStream> {
        let tables = self.backend.tables().await?;
        let infos: Vec<_> = tables.iter().map(Self::table_info).collect();
        Ok(Response::new(stream::iter(infos).boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answered<FlightInfo> {
        let session = self.session(&request);
        self.info(request.into_inner(), &session).await.map(Response::new)
    }

    /// Answers at once: rows are computed while they are fetched, so there is nothing to poll for.
    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Answered<PollInfo> {
        let session = self.session(&request);
        let info = self.info(request.into_inner(), &session).await?;
        Ok(Response::new(PollInfo { info: Some(info), progress: Some(1.0), ..PollInfo::default() }))
    }

    /// Plans and runs nothing.
    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answered<SchemaResult> {
        let settings = self.session(&request).settings();
        let schema = match self.command(request.get_ref())? {
            Wanted::Statement(sql) => self.statement_schema(&Handle::new(sql, settings)).await?,
            Wanted::Prepared(handle) => self.statement_schema(&handle).await?,
            Wanted::Metadata(command) => {
                wire::schema_bytes(metadata::answer(&*self.backend, command).await?.schema_ref())?
            }
        };
        Ok(Response::new(SchemaResult { schema }))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answered<Self::DoGetStream> {
        let call = self.session(&request).call();
        let rows = match decode_command(&request.get_ref().ticket)? {
            Command::TicketStatementQuery(ticket) => {
                self.statement_rows(Handle::decode(&ticket.statement_handle, &self.seal)?).await?
            }
            command => Self::metadata_rows(metadata::answer(&*self.backend, command).await?)?,
        };
        let until_the_last = move |message| {
            let _call = &call;
            message
        };
        Ok(Response::new(rows.map(until_the_last).boxed()))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answered<Self::DoPutStream> {
        let session = self.session(&request);
        let mut messages = Box::pin(request.into_inner().peekable());
        let descriptor = match messages.as_mut().peek().await {
            Some(Ok(first)) => first.flight_descriptor.clone(),
            Some(Err(status)) => return Err(status.clone()),
            None => None,
        };
        let descriptor = descriptor
            .ok_or_else(|| Status::invalid_argument("DoPut does not say what it is for: no descriptor"))?;
        let app_metadata = match decode_command(&descriptor.cmd)? {
            Command::CommandStatementUpdate(update) => {
                self.update_result(&session, Handle::new(update.query, session.settings())).await?
            }
            Command::CommandPreparedStatementUpdate(update) => {
                let mut handle = Handle::decode(&update.prepared_statement_handle, &self.seal)?;
                let parameters = bind::read_if_any(messages).await?;
                if !parameters.is_empty() {
                    handle.parameters = parameters;
                }
                self.update_result(&session, handle).await?
            }
            Command::CommandPreparedStatementQuery(query) => {
                let mut handle = Handle::decode(&query.prepared_statement_handle, &self.seal)?;
                handle.parameters = bind::read_if_any(messages).await?;
                let prepared_statement_handle = Some(handle.encode(&self.seal));
                DoPutPreparedStatementResult { prepared_statement_handle }.encode_to_vec()
            }
            Command::CommandStatementIngest(_) => {
                return Err(Status::unimplemented(
                    "tables are filled from streams; rows cannot be written over Flight SQL",
                ));
            }
            other => return Err(not_supported(&other)),
        };
        Ok(Response::new(stream::iter([Ok(PutResult { app_metadata: app_metadata.into() })]).boxed()))
    }

    async fn do_action(&self, request: Request<Action>) -> Answered<Self::DoActionStream> {
        let session = self.session(&request);
        let bodies = actions::answer(self, &session, request.into_inner()).await?;
        let results = bodies.into_iter().map(|body| Ok(arrow_flight::Result::new(body)));
        Ok(Response::new(stream::iter(results.collect::<Vec<_>>()).boxed()))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answered<Self::ListActionsStream> {
        let types = actions::NAMES.map(|(name, description)| {
            Ok(ActionType { r#type: name.to_owned(), description: description.to_owned() })
        });
        Ok(Response::new(stream::iter(types).boxed()))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answered<Self::DoExchangeStream> {
        Err(Status::unimplemented("DoExchange has no use here"))
    }
}

impl Service {
    async fn update_result(&self, session: &Session, handle: Handle) -> Result<Vec<u8>, Status> {
        let record_count = self.update(session, handle).await?;
        Ok(DoPutUpdateResult { record_count }.encode_to_vec())
    }
}

pub(crate) fn decode_command(bytes: &[u8]) -> Result<Command, Status> {
    let unknown = |reason: String| Status::invalid_argument(format!("not a Flight SQL command: {reason}"));
    let any = Any::decode(bytes).map_err(|error| unknown(error.to_string()))?;
    Command::try_from(any).map_err(|error| unknown(error.to_string()))
}

pub(crate) fn not_supported(command: &Command) -> Status {
    Status::unimplemented(format!("{} is not supported", command.type_url()))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Packs a message the way most Flight SQL actions want it.
pub(crate) fn packed(message: &impl ProstMessageExt) -> Vec<u8> {
    message.as_any().encode_to_vec()
}
