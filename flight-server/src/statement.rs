//! A statement over the wire: planned for its schema, run for its rows or its effect.
//!
//! A query is planned when its FlightInfo is asked for, so errors come early, and runs when its ticket is redeemed. A
//! statement without rows (DDL) runs at once, and its FlightInfo has no endpoint; what it did is in `app_metadata`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightData, FlightEndpoint, FlightInfo, Ticket};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use prost::Message;
use thalweg_sql::travel::Form;
use tonic::Status;
use uuid::Uuid;

use crate::backend::{Answer, Backend, Prepared};
use crate::bind;
use crate::handle::Handle;
use crate::service::Service;
use crate::session::{Session, Unset};
use crate::wire::{self, Piece};

/// Longer texts are refused before they are parsed.
const STATEMENT_BYTES_MAX: usize = 64 * 1024;

impl Service {
    /// Plans a query and gives a ticket for its rows; runs anything else.
    pub async fn statement_info(&self, session: &Session, mut handle: Handle) -> Result<FlightInfo, Status> {
        let Prepared { rows, .. } = self.plan(&handle).await?;
        let Some(rows) = rows else {
            let message = self.run_for_effect(session, &handle).await?;
            let schema = wire::schema_bytes(&Schema::empty())?;
            return Ok(FlightInfo { schema, ..FlightInfo::new() }.with_app_metadata(message));
        };
        handle.advertised = wire::schema_bytes(&wire::wire_schema(&rows, &handle.profile()))?;
        handle.query = Bytes::copy_from_slice(Uuid::new_v4().as_bytes());
        let ticket =
            TicketStatementQuery { statement_handle: handle.encode(&self.seal) }.as_any().encode_to_vec();
        Ok(FlightInfo { schema: handle.advertised, ..FlightInfo::new() }
            .with_ordered(true)
            .with_endpoint(FlightEndpoint::new().with_ticket(Ticket::new(ticket))))
    }

    /// The schema that `statement_info` would advertise.
    pub async fn statement_schema(&self, handle: &Handle) -> Result<Bytes, Status> {
        let rows = self.plan(handle).await?.rows.unwrap_or_else(|| Arc::new(Schema::empty()));
        wire::schema_bytes(&wire::wire_schema(&rows, &handle.profile()))
    }

    /// Plans with the first row of parameters, if any are bound.
    pub async fn plan(&self, handle: &Handle) -> Result<Prepared, Status> {
        if handle.sql.len() > STATEMENT_BYTES_MAX {
            return Err(Status::invalid_argument(format!(
                "the statement is too long. bytes={}, bytes_max={STATEMENT_BYTES_MAX}",
                handle.sql.len()
            )));
        }
        let parameters = bind::rows(&handle.parameters)?.next().transpose()?.flatten();
        Ok(self.backend.prepare(&handle.scope(), &handle.sql, parameters.as_ref()).await?)
    }

    /// Runs the query of a ticket, once for each row of parameters.
    pub async fn statement_rows(
        &self,
        handle: Handle,
    ) -> Result<BoxStream<'static, Result<FlightData, Status>>, Status> {
        let schema = wire::schema_from_bytes(&handle.advertised)?;
        let opening = self.open(&handle, &schema);
        let rows = self.running.track(handle.query.clone(), opening).await?;
        wire::encode(schema, &handle.profile(), rows)
    }

    /// Starts the first run, so that its errors come before any row does; the others follow in turn.
    async fn open(
        &self,
        handle: &Handle,
        advertised: &SchemaRef,
    ) -> Result<BoxStream<'static, Result<Piece, Status>>, Status> {
        let mut parameters = bind::rows(&handle.parameters)?;
        let first = match parameters.next().transpose()? {
            Some(row) => Some(run_for_rows(&self.backend, handle, row, advertised).await?),
            None => None,
        };
        let backend = Arc::clone(&self.backend);
        let (handle, advertised) = (handle.clone(), Arc::clone(advertised));
        let others = stream::iter(parameters).then(move |row| {
            let (backend, handle, advertised) =
                (Arc::clone(&backend), handle.clone(), Arc::clone(&advertised));
            async move { run_for_rows(&backend, &handle, row?, &advertised).await }
        });
        Ok(stream::iter(first.map(Ok)).chain(others).try_flatten().boxed())
    }

    /// Runs a statement for its effect. It changes no rows, and says so: JDBC takes -1 for "there is a result set", and
    /// would run the statement again to fetch it.
    pub async fn update(&self, session: &Session, handle: Handle) -> Result<i64, Status> {
        if self.plan(&handle).await?.rows.is_some() {
            return Err(Status::invalid_argument(
                "this statement answers with rows; run it as a query, not as an update",
            ));
        }
        self.run_for_effect(session, &handle).await?;
        Ok(0)
    }

    async fn set(&self, session: &Session, name: &str, value: &str) -> Result<String, Status> {
        match session.set(name, value, &self.backend.schemas().await?) {
            Ok(()) => Ok(format!("{name} is {value} from now on, on this connection")),
            Err(Unset::BadValue(reason)) => {
                Err(Status::invalid_argument(format!("{name} can't be '{value}': {reason}")))
            }
            Err(Unset::UnknownName) => {
                let mut known: Vec<_> = session.options().into_keys().collect();
                known.sort();
                Err(Status::invalid_argument(format!(
                    "no setting \"{name}\"\nhint: settings are {}",
                    known.join(", ")
                )))
            }
        }
    }

    async fn run_for_effect(&self, session: &Session, handle: &Handle) -> Result<String, Status> {
        if let Some((name, value)) = self.backend.setting(&handle.sql)? {
            return self.set(session, &name, &value).await;
        }
        let mut messages = Vec::new();
        for row in bind::rows(&handle.parameters)? {
            let executed =
                self.backend.execute(&handle.scope(), &handle.sql, row?.as_ref(), &Form::default()).await?;
            match executed {
                Answer::Done(message) => messages.push(message),
                Answer::Rows(_) | Answer::Encoded { .. } => {
                    return Err(Status::internal(
                        "the statement was planned without rows, and answered with some",
                    ));
                }
            }
        }
        Ok(messages.join("\n"))
    }
}

async fn run_for_rows(
    backend: &Arc<dyn Backend>,
    handle: &Handle,
    parameters: Option<RecordBatch>,
    advertised: &SchemaRef,
) -> Result<BoxStream<'static, Result<Piece, Status>>, Status> {
    let form = Form { schema: Some(Arc::clone(advertised)), compression: handle.profile().compression() };
    let answer = backend.execute(&handle.scope(), &handle.sql, parameters.as_ref(), &form).await?;
    let planned = match &answer {
        Answer::Rows(rows) => rows.schema(),
        Answer::Encoded { planned, .. } => Arc::clone(planned),
        Answer::Done(_) => {
            return Err(Status::invalid_argument("this ticket is for a statement without rows"));
        }
    };
    if !same_columns(&wire::wire_schema(&planned, &handle.profile()), advertised) {
        return Err(Status::failed_precondition(
            "the columns have changed since this statement was planned; run it again",
        ));
    }
    let backend = Arc::clone(backend);
    Ok(match answer {
        Answer::Rows(rows) => {
            rows.map_ok(Piece::Rows).map_err(move |error| backend.explain(error).into()).boxed()
        }
        Answer::Encoded { messages, .. } => messages.map_ok(Piece::Encoded).map_err(Status::from).boxed(),
        Answer::Done(_) => stream::empty().boxed(),
    })
}

/// Names and types are compared; nullability is the advertised one's to say.
fn same_columns(now: &Schema, advertised: &Schema) -> bool {
    let column =
        |field: &Arc<Field>| -> (String, DataType) { (field.name().clone(), field.data_type().clone()) };
    now.fields().len() == advertised.fields().len()
        && now.fields().iter().zip(advertised.fields()).all(|(now, then)| {
            let ((now_name, now_type), (then_name, then_type)) = (column(now), column(then));
            now_name == then_name && now_type.equals_datatype(&then_type)
        })
}
