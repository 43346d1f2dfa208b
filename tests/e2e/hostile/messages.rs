//! Messages that no client sends: handles and tickets that were not given out, IPC that says what is not so.

use std::sync::Arc;

use anyhow::{Result, ensure};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any,
    CommandPreparedStatementQuery, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, SchemaAsIpc, Ticket};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tonic::transport::Channel;

type Client = FlightServiceClient<Channel>;

const STATEMENT: &str = "SELECT $1 AS a, $2 AS b";

pub struct Told {
    pub sent: usize,
    pub taken: usize,
}

/// Sends so many, and each is answered or refused.
pub async fn send(address: &str, count: usize, seed: u64) -> Result<Told> {
    let mut random = StdRng::seed_from_u64(seed);
    let channel = Channel::from_shared(format!("http://{address}"))?.connect().await?;
    let mut client = FlightServiceClient::new(channel);
    let mut told = Told { sent: 0, taken: 0 };
    for (what, message) in by_hand(&mut client).await? {
        let taken = put(&mut client, message).await;
        ensure!(!taken, "{what} was taken");
        told.sent += 1;
    }
    let handle = prepared(&mut client).await?;
    for _ in 0..count {
        let taken = match random.random_range(0..3) {
            0 => {
                let ticket = TicketStatementQuery { statement_handle: mutated(&handle, &mut random).into() };
                let ticket = Ticket::new(ticket.as_any().encode_to_vec());
                fetched(&mut client, ticket).await
            }
            1 => fetched(&mut client, Ticket::new(mutated(&handle, &mut random))).await,
            _ => {
                let compression = [None, Some(CompressionType::ZSTD), Some(CompressionType::LZ4_FRAME)]
                    [random.random_range(0..3)];
                let mut messages = parameters(&handle, compression)?;
                let which = random.random_range(0..messages.len());
                let message = &mut messages[which];
                match random.random_bool(0.6) || message.data_body.is_empty() {
                    true => message.data_header = mutated(&message.data_header, &mut random).into(),
                    false => message.data_body = mutated(&message.data_body, &mut random).into(),
                }
                put(&mut client, messages).await
            }
        };
        told.sent += 1;
        told.taken += usize::from(taken);
    }
    ensure!(put(&mut client, parameters(&handle, None)?).await, "what is right is taken still");
    Ok(told)
}

/// A few bytes changed, cut or doubled.
fn mutated(bytes: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..4) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..5) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = 0xff,
            2 => bytes.truncate(at),
            3 => {
                let tail = bytes[at..].to_vec();
                bytes.extend(tail);
            }
            _ => {
                let end = (at + 8).min(bytes.len());
                bytes[at..end].fill([0x00, 0x7f, 0xff][random.random_range(0..3)]);
            }
        }
    }
    bytes
}

async fn by_hand(client: &mut Client) -> Result<Vec<(&'static str, Vec<FlightData>)>> {
    let handle = prepared(client).await?;
    let right = parameters(&handle, Some(CompressionType::ZSTD))?;
    let with = |change: &dyn Fn(&mut FlightData)| {
        let mut messages = right.clone();
        change(&mut messages[1]);
        messages
    };
    let wild = |body: &bytes::Bytes| {
        let mut body = body.to_vec();
        // Each buffer begins with how long it becomes.
        body[..8].copy_from_slice(&(1_i64 << 46).to_le_bytes());
        body.into()
    };
    let zeros = RecordBatch::try_from_iter([
        ("a", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
        ("b", Arc::new(StringArray::from(vec!["0".repeat(100 << 20)]))),
    ])?;
    let first = descriptor(&handle);
    let mut bomb = encoded(&zeros, Some(CompressionType::ZSTD))?;
    bomb[0].flight_descriptor = Some(first.clone());
    let mut foreign = right.clone();
    let strange = bytes::Bytes::from_static(b"tw\x02 made up");
    foreign[0].flight_descriptor = Some(descriptor(&strange));
    let mut rows_first = right.clone();
    rows_first.swap(0, 1);
    rows_first[0].flight_descriptor = Some(first);
    Ok(vec![
        ("a buffer of 2^46 bytes", with(&|message| message.data_body = wild(&message.data_body))),
        ("a body cut short", with(&|message| message.data_body.truncate(9))),
        ("a header of megabytes", with(&|message| message.data_header = vec![7; 3 << 20].into())),
        ("a hundred megabytes in a few kilobytes", bomb),
        ("a made-up handle", foreign),
        ("rows before their schema", rows_first),
    ])
}

async fn prepared(client: &mut Client) -> Result<bytes::Bytes> {
    let request = ActionCreatePreparedStatementRequest { query: STATEMENT.to_owned(), transaction_id: None };
    let action = Action::new("CreatePreparedStatement", request.as_any().encode_to_vec());
    let answer = client.do_action(action).await?.into_inner().try_next().await?;
    let body = answer.ok_or_else(|| anyhow::anyhow!("no answer"))?.body;
    let any = Any::decode(body)?;
    let result: Option<ActionCreatePreparedStatementResult> = any.unpack()?;
    Ok(result.ok_or_else(|| anyhow::anyhow!("another answer"))?.prepared_statement_handle)
}

fn descriptor(handle: &bytes::Bytes) -> FlightDescriptor {
    let command = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
    FlightDescriptor::new_cmd(command.as_any().encode_to_vec())
}

fn parameters(handle: &bytes::Bytes, compression: Option<CompressionType>) -> Result<Vec<FlightData>> {
    let batch = RecordBatch::try_from_iter([
        ("a", Arc::new(Int64Array::from_iter_values(0..40)) as ArrayRef),
        ("b", Arc::new(StringArray::from_iter_values((0..40).map(|n| "x".repeat(n))))),
    ])?;
    let mut messages = encoded(&batch, compression)?;
    messages[0].flight_descriptor = Some(descriptor(handle));
    Ok(messages)
}

fn encoded(batch: &RecordBatch, compression: Option<CompressionType>) -> Result<Vec<FlightData>> {
    let options = IpcWriteOptions::default().try_with_compression(compression)?;
    let mut tracker = DictionaryTracker::new(true);
    let mut context = IpcWriteContext::default();
    let (_, rows) = IpcDataGenerator::default().encode(batch, &mut tracker, &options, &mut context)?;
    Ok(vec![FlightData::from(SchemaAsIpc::new(&batch.schema(), &options)), rows.into()])
}

async fn put(client: &mut Client, messages: Vec<FlightData>) -> bool {
    match client.do_put(futures::stream::iter(messages)).await {
        Ok(answer) => answer.into_inner().all(|message| async move { message.is_ok() }).await,
        Err(_) => false,
    }
}

async fn fetched(client: &mut Client, ticket: Ticket) -> bool {
    match client.do_get(ticket).await {
        Ok(rows) => rows.into_inner().all(|message| async move { message.is_ok() }).await,
        Err(_) => false,
    }
}
