//! The server against arrow-flight's own client, over loopback.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema, TimeUnit};
use arrow::util::pretty::pretty_format_batches;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandStatementQuery, ProstMessageExt, SqlInfo,
};
use arrow_flight::{Action, CancelFlightInfoRequest, FlightDescriptor, FlightInfo, IpcMessage};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Channel;

use crate::actions::{
    INVALID_NAME, INVALID_VALUE, OptionValue, SetSessionOptionsRequest, SetSessionOptionsResult,
};
use crate::{Answer, Backend, Limits, Prepared, Refusal, Scope, Table, not_yet, serve};

mod database;
mod plain_backend;

type Client = FlightSqlServiceClient<Channel>;

struct Running {
    address: String,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), tonic::transport::Error>>,
}

async fn start(limits: Limits) -> Running {
    start_with(Arc::new(plain_backend::PlainBackend::with_sales()), limits).await
}

async fn start_with(backend: Arc<dyn Backend>, limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(serve(listener, backend, limits, async {
        // A test that forgets its server does not stop it.
        if stopped.await.is_err() {
            std::future::pending().await
        }
    }));
    Running { address, stop, ended }
}

async fn connect(running: &Running) -> Client {
    let channel = Channel::from_shared(running.address.clone()).unwrap().connect().await.unwrap();
    FlightSqlServiceClient::new_from_inner(
        FlightServiceClient::new(channel).max_decoding_message_size(usize::MAX),
    )
}

fn connect_lazily(address: &str) -> Client {
    let channel = Channel::from_shared(address.to_owned()).unwrap().connect_lazy();
    FlightSqlServiceClient::new_from_inner(FlightServiceClient::new(channel))
}

/// A client, and the server that lives as long as the runtime of the test.
async fn client() -> Client {
    connect(&start(Limits::default()).await).await
}

async fn fetch(client: &mut Client, info: FlightInfo) -> Vec<RecordBatch> {
    let advertised = info.schema.clone();
    assert_eq!(info.endpoint.len(), 1);
    assert!(info.endpoint[0].location.is_empty());
    let mut rows = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    let mut batches = vec![];
    while let Some(batch) = rows.try_next().await.unwrap() {
        batches.push(batch);
    }
    let sent = crate::wire::schema_bytes(rows.schema().expect("a schema comes first, rows or none")).unwrap();
    assert_eq!(sent, advertised, "the schema sent is the schema advertised");
    batches
}

async fn query(client: &mut Client, sql: &str) -> Vec<RecordBatch> {
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    fetch(client, info).await
}

/// The rows of `sql`, each as its cells joined by a bar.
async fn rows(client: &mut Client, sql: &str) -> Vec<String> {
    cells(&query(client, sql).await)
}

fn cells(batches: &[RecordBatch]) -> Vec<String> {
    let table = pretty_format_batches(batches).unwrap().to_string();
    table
        .lines()
        .skip(3)
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|"))
        .collect()
}

/// Who asked too early is answered later, by the same client.
#[tokio::test]
async fn before_there_is_a_server_who_calls_is_told_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (stop, ended) = (oneshot::channel::<()>().0, tokio::spawn(async { Ok(()) }));
    let mut early = connect_lazily(&address);
    let asked = async {
        let told = refused(&mut early, "SELECT 1").await;
        assert_eq!((told.code(), told.message()), (Code::Unavailable, "the store is away"));
    };
    // Who says nothing holds nobody up.
    let _silent = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    not_yet(&listener, Arc::new(|| "the store is away".to_owned()), asked).await;
    let backend = Arc::new(plain_backend::PlainBackend::with_sales());
    tokio::spawn(serve(listener, backend, Limits::default(), std::future::pending()));
    let mut late = connect(&Running { address, stop, ended }).await;
    assert_eq!(rows(&mut late, "SELECT 1 AS one").await, ["1"]);
    assert_eq!(rows(&mut early, "SELECT 1 AS one").await, ["1"]);
}

/// The status with which planning `sql` is refused.
async fn refused(client: &mut Client, sql: &str) -> tonic::Status {
    let descriptor = FlightDescriptor::new_cmd(
        CommandStatementQuery { query: sql.to_owned(), transaction_id: None }.as_any().encode_to_vec(),
    );
    client.inner_mut().get_flight_info(descriptor).await.unwrap_err()
}

#[tokio::test]
async fn a_query_answers_with_its_rows() {
    let mut client = client().await;
    let found =
        rows(&mut client, "SELECT product, count(*) AS n FROM sales GROUP BY product ORDER BY product").await;
    assert_eq!(found, ["mug|2", "pot|1", "tea|2"]);
    assert!(query(&mut client, "SELECT id FROM sales WHERE id > 9").await.is_empty());
}

#[tokio::test]
async fn types_that_old_clients_cannot_read_are_cast_and_advertised_so() {
    let mut client = client().await;
    let sql = "SELECT product, arrow_cast(product, 'Dictionary(Int32, Utf8)') AS coded, \
               arrow_cast(product, 'LargeUtf8') AS large, [product] AS listed, \
               {'name': product, 'names': [product]} AS nested, sold_at FROM sales";
    let batches = query(&mut client, sql).await;
    let types: Vec<_> = batches[0].schema().fields().iter().map(|f| f.data_type().clone()).collect();
    assert_eq!(types[..3], [DataType::Utf8, DataType::Utf8, DataType::Utf8]);
    let DataType::List(item) = &types[3] else { panic!("a list, not {}", types[3]) };
    assert_eq!(item.data_type(), &DataType::Utf8);
    let DataType::Struct(fields) = &types[4] else { panic!("a struct, not {}", types[4]) };
    assert_eq!(fields[0].data_type(), &DataType::Utf8);
    let DataType::List(item) = fields[1].data_type() else { panic!("a list, not {}", fields[1]) };
    assert_eq!(item.data_type(), &DataType::Utf8);
    assert_eq!(types[5], DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert_eq!(cells(&batches)[1], "mug|mug|mug|[mug]|{name: mug, names: [mug]}|1970-01-01T00:00:01Z");
}

#[tokio::test]
async fn messages_stay_below_two_mebibytes() {
    let mut client = client().await;
    let sql = "SELECT repeat('x', 3000 + CAST(value % 7 AS INT)) AS x FROM generate_series(1, 4000)";
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let messages: Vec<_> =
        client.inner_mut().do_get(ticket).await.unwrap().into_inner().try_collect().await.unwrap();
    let largest = messages.iter().map(|message| message.data_body.len()).max().unwrap();
    assert!(largest <= thalweg_sql::travel::MESSAGE_BYTES_MAX, "{largest}");
    assert!(messages.len() > 6 && messages.len() < 30, "{}", messages.len());
    assert_eq!(query(&mut client, sql).await.iter().map(RecordBatch::num_rows).sum::<usize>(), 4000);
}

#[tokio::test]
async fn a_ticket_may_be_redeemed_twice() {
    let mut client = client().await;
    let info = client.execute("SELECT sum(id) AS s FROM sales".to_owned(), None).await.unwrap();
    for _ in 0..2 {
        let batches = fetch(&mut client, info.clone()).await;
        assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), 15);
    }
}

#[tokio::test]
async fn mistakes_are_refused_while_planning_and_name_what_is_wrong() {
    let mut client = client().await;
    let status = refused(&mut client, "SELECT nothing FROM sales").await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("nothing"), "{}", status.message());
    let status = refused(&mut client, &format!("SELECT '{}'", "x".repeat(70_000))).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("bytes_max=65536"), "{}", status.message());
}

#[tokio::test]
async fn an_error_among_the_rows_reaches_the_client() {
    let mut client = client().await;
    let info = client.execute("SELECT 10 / (id - 3) AS q FROM sales".to_owned(), None).await.unwrap();
    let error = match client.do_get(info.endpoint[0].ticket.clone().unwrap()).await {
        Ok(rows) => rows.try_collect::<Vec<_>>().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(error.to_string().to_lowercase().contains("divide by zero"), "{error}");
}

#[tokio::test]
async fn ddl_runs_when_its_info_is_asked_for_and_has_no_endpoint() {
    let mut client = client().await;
    let info = client.execute("CREATE VIEW v AS SELECT id FROM sales".to_owned(), None).await.unwrap();
    assert!(info.endpoint.is_empty());
    assert_eq!(info.clone().try_decode_schema().unwrap(), Schema::empty());
    assert_eq!(info.app_metadata, "done");
    assert_eq!(rows(&mut client, "SELECT count(*) FROM v").await, ["5"]);
    assert_eq!(client.execute_update("DROP VIEW v".to_owned(), None).await.unwrap(), 0);
    assert_eq!(refused(&mut client, "SELECT * FROM v").await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_query_is_not_an_update() {
    let mut client = client().await;
    let error = client.execute_update("SELECT 1".to_owned(), None).await.unwrap_err();
    assert!(error.to_string().contains("answers with rows"), "{error}");
}

#[tokio::test]
async fn preparing_ddl_changes_nothing_and_running_it_does() {
    let mut client = client().await;
    let mut prepared = client.prepare("CREATE VIEW v AS SELECT 1 AS one".to_owned(), None).await.unwrap();
    assert_eq!(prepared.dataset_schema().unwrap(), &Schema::empty());
    assert_eq!(refused(&mut client, "SELECT * FROM v").await.code(), Code::InvalidArgument);
    assert_eq!(prepared.execute_update().await.unwrap(), 0);
    assert_eq!(rows(&mut client, "SELECT one FROM v").await, ["1"]);
}

#[tokio::test]
async fn a_prepared_statement_runs_once_for_each_row_of_parameters() {
    let mut client = client().await;
    let sql = "SELECT id, product FROM sales WHERE id > $1 ORDER BY id LIMIT 1";
    let mut prepared = client.prepare(sql.to_owned(), None).await.unwrap();
    assert_eq!(prepared.parameter_schema().unwrap().field(0).data_type(), &DataType::Int64);
    assert_eq!(prepared.dataset_schema().unwrap().field(1).data_type(), &DataType::Utf8);
    let values = Int64Array::from(vec![0, 3]);
    prepared.set_parameters(RecordBatch::try_from_iter([("$1", Arc::new(values) as _)]).unwrap()).unwrap();
    let info = prepared.execute().await.unwrap();
    let batches = fetch(&mut client, info).await;
    assert_eq!(cells(&batches), ["1|tea", "4|pot"]);
    prepared.close().await.unwrap();
}

#[tokio::test]
async fn a_foreign_handle_is_refused() {
    let mut client = client().await;
    let ticket = arrow_flight::sql::TicketStatementQuery { statement_handle: "x".into() };
    let error = client.do_get(arrow_flight::Ticket::new(ticket.as_any().encode_to_vec())).await.unwrap_err();
    assert!(error.to_string().contains("not one of this server"), "{error}");
}

#[tokio::test]
async fn catalogs_schemas_and_tables_are_listed() {
    let mut client = client().await;
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(cells(&fetch(&mut client, info).await), ["thalweg"]);
    let all = CommandGetDbSchemas { catalog: None, db_schema_filter_pattern: None };
    let info = client.get_db_schemas(all).await.unwrap();
    assert_eq!(cells(&fetch(&mut client, info).await), ["thalweg|history", "thalweg|public"]);
    let pattern = CommandGetTables {
        table_name_filter_pattern: Some("sal%".to_owned()),
        include_schema: true,
        ..CommandGetTables::default()
    };
    let info = client.get_tables(pattern).await.unwrap();
    let tables = fetch(&mut client, info).await;
    assert!(cells(&tables)[0].starts_with("thalweg|public|sales|TABLE|"));
    let bytes = tables[0].column(4).as_binary::<i32>().value(0).to_vec();
    let columns = Schema::try_from(IpcMessage(bytes.into())).unwrap();
    assert_eq!(columns.field_with_name("product").unwrap().data_type(), &DataType::Utf8);
    let none = CommandGetTables { table_types: vec!["VIEW".to_owned()], ..CommandGetTables::default() };
    let info = client.get_tables(none).await.unwrap();
    assert!(fetch(&mut client, info).await.iter().all(|batch| batch.num_rows() == 0));
}

#[tokio::test]
async fn the_server_tells_what_it_is_and_which_types_it_has() {
    let mut client = client().await;
    let wanted = vec![
        SqlInfo::FlightSqlServerName,
        SqlInfo::FlightSqlServerArrowVersion,
        SqlInfo::FlightSqlServerReadOnly,
        SqlInfo::SqlIdentifierQuoteChar,
    ];
    let info = client.get_sql_info(wanted).await.unwrap();
    let facts = fetch(&mut client, info).await;
    assert_eq!(facts[0].num_rows(), 4, "flightsql-dbapi needs each of these");
    let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None }).await.unwrap();
    assert!(fetch(&mut client, info).await[0].num_rows() > 10);
    let info = client.get_primary_keys(CommandGetPrimaryKeys::default()).await.unwrap();
    assert!(fetch(&mut client, info).await.is_empty());
}

#[tokio::test]
async fn schemas_come_without_running_and_paths_name_tables() {
    let mut client = client().await;
    let path = FlightDescriptor::new_path(vec!["public".to_owned(), "sales".to_owned()]);
    let schema = client.inner_mut().get_schema(path.clone()).await.unwrap().into_inner();
    let info = client.inner_mut().get_flight_info(path.clone()).await.unwrap().into_inner();
    assert_eq!(schema.schema, info.schema);
    assert_eq!(fetch(&mut client, info).await[0].column(2).as_primitive::<Float64Type>().value(3), 21.5);
    let polled = client.inner_mut().poll_flight_info(path).await.unwrap().into_inner();
    assert!(polled.flight_descriptor.is_none() && polled.info.is_some());
    let flights = client.inner_mut().list_flights(arrow_flight::Criteria::default()).await.unwrap();
    let flights: Vec<_> = flights.into_inner().try_collect().await.unwrap();
    assert_eq!(flights[0].flight_descriptor.clone().unwrap().path, ["thalweg", "public", "sales"]);
}

#[tokio::test]
async fn a_dropped_stream_ends_its_query() {
    let mut client = client().await;
    let endless = "SELECT value FROM generate_series(1, 9000000000)";
    let info = client.execute(endless.to_owned(), None).await.unwrap();
    let mut first = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    first.next().await.unwrap().unwrap();
    drop(first);
    let action = Action::new("CancelFlightInfo", CancelFlightInfoRequest::new(info).encode_to_vec());
    // The reset reaches the server in its own time, so ask until the query is gone.
    while client.do_action(action.clone()).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn cancel_flight_info_stops_a_running_query() {
    let mut client = client().await;
    let endless = "SELECT value FROM generate_series(1, 9000000000)";
    let info = client.execute(endless.to_owned(), None).await.unwrap();
    let mut rows = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    rows.next().await.unwrap().unwrap();
    let request = CancelFlightInfoRequest::new(info.clone());
    let action = Action::new("CancelFlightInfo", request.encode_to_vec());
    client.do_action(action.clone()).await.unwrap().message().await.unwrap();
    let error = rows.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(error.to_string().contains("was cancelled"), "{error}");
    let error = client.do_action(action).await.unwrap_err();
    assert!(error.to_string().contains("not running"), "{error}");
}

#[tokio::test]
async fn a_stop_waits_for_nobody_for_long() {
    let limits = Limits { grace: std::time::Duration::from_millis(50), ..Limits::default() };
    let server = start(limits).await;
    let mut client = connect(&server).await;
    let info =
        client.execute("SELECT value FROM generate_series(1, 9000000000)".to_owned(), None).await.unwrap();
    let mut rows = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    rows.next().await.unwrap().unwrap();
    server.stop.send(()).unwrap();
    let (ended, rest) = tokio::join!(server.ended, rows.try_collect::<Vec<_>>());
    ended.unwrap().unwrap();
    assert!(rest.is_err());
}

/// Sets one option; 0, or why it was not set.
async fn set(client: &mut Client, name: &str, value: &str) -> i32 {
    let option = (name.to_owned(), OptionValue::text(value.to_owned()));
    let request = SetSessionOptionsRequest { session_options: [option].into() };
    let action = Action::new("SetSessionOptions", request.encode_to_vec());
    let answer = client.do_action(action).await.unwrap().message().await.unwrap().unwrap();
    let result = SetSessionOptionsResult::decode(answer.body).unwrap();
    result.errors.get(name).map_or(0, |error| error.value)
}

#[tokio::test]
async fn session_options_belong_to_one_connection() {
    let server = start(Limits::default()).await;
    let (mut client, mut other) = (connect(&server).await, connect(&server).await);
    assert_eq!(set(&mut client, "schema", "history").await, 0);
    assert_eq!(refused(&mut client, "SELECT * FROM sales").await.code(), Code::InvalidArgument);
    assert_eq!(rows(&mut other, "SELECT count(*) FROM sales").await, ["5"]);
    assert_eq!(set(&mut client, "schema", "nowhere").await, INVALID_VALUE);
    assert_eq!(set(&mut client, "colour", "blue").await, INVALID_NAME);
}

#[tokio::test]
async fn compression_and_nanoseconds_are_options() {
    let mut client = client().await;
    let sql = "SELECT sold_at, repeat('x', 5000) AS x FROM sales";
    let plain = client.execute(sql.to_owned(), None).await.unwrap();
    let plain = client.inner_mut().do_get(plain.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    let plain: Vec<_> = plain.into_inner().try_collect().await.unwrap();
    assert_eq!(set(&mut client, "compression", "zstd").await, 0);
    assert_eq!(set(&mut client, "timestamp_unit", "ns").await, 0);
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    let small = client.inner_mut().do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    let small: Vec<_> = small.into_inner().try_collect().await.unwrap();
    assert!(small[1].data_body.len() * 10 < plain[1].data_body.len());
    let batches = fetch(&mut client, info).await;
    let unit = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    assert_eq!(batches[0].schema().field(0).data_type(), &unit);
    assert!(cells(&batches)[1].starts_with("1970-01-01T00:00:01Z|xxx"));
}

#[tokio::test]
async fn a_silent_query_sends_empty_batches() {
    let schema = Arc::new(Schema::new(vec![arrow::datatypes::Field::new("n", DataType::Int64, false)]));
    let silent = futures::stream::pending::<Result<crate::wire::Piece, tonic::Status>>();
    let messages = crate::wire::encode(schema, &crate::wire::Profile::default(), silent).unwrap();
    let messages: Vec<_> = messages.take(2).map(|message| Ok(message.unwrap())).collect().await;
    let messages = futures::stream::iter(messages);
    let batches: Vec<RecordBatch> =
        arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(messages)
            .try_collect()
            .await
            .unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [0]);
}
