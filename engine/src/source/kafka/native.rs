//! The unsafe corner of the Kafka source: librdkafka's calls that the `rdkafka` crate does not wrap, behind safe ones.
//!
//! Reading by batches is why it exists: `rd_kafka_consume_batch_queue` gives a million messages a second more than
//! one-by-one `poll`. Knows nothing of streams, offsets to resume at or batches of ours.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::bindings as ffi;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::NativeClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaType;

use super::connection::Connection;
use crate::ids::{Micros, Offset, PartitionId, TopicId};
use crate::source::NO_TIMESTAMP;

/// Whether a record that was not acknowledged can't be in the topic, for it was never sent.
pub(super) fn never_left(message: &BorrowedMessage<'_>) -> bool {
    // SAFETY: the message is alive as long as the borrow is.
    let status = unsafe { ffi::rd_kafka_message_status(message.ptr()) };
    status == ffi::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
}

/// A consumer, and the queue that its partitions feed.
pub(super) struct Consumer {
    /// Declared, and so dropped, before the client whose queues they are.
    queue: Queue,
    answers: Queue,
    client: Client<Connection>,
    topic: CString,
    /// Room for the messages of one call.
    messages: Vec<*mut ffi::rd_kafka_message_t>,
}

// SAFETY: librdkafka's handles may be used from any thread. `messages` is empty whenever `consume` is not running.
unsafe impl Send for Consumer {}

struct Queue(*mut ffi::rd_kafka_queue_t);

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the queue was given to us with a reference that is ours to give back, and its client is still alive.
        unsafe { ffi::rd_kafka_queue_destroy(self.0) }
    }
}

/// One entry of a consumer's queue: a record, or something about its partition. Lives as long as the call that shows it.
pub(super) struct Message<'a> {
    raw: &'a ffi::rd_kafka_message_t,
    _of_the_queue: PhantomData<&'a Consumer>,
}

impl<'a> Message<'a> {
    pub(super) fn error(&self) -> Option<RDKafkaErrorCode> {
        let code = self.raw.err;
        (code != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| code.into())
    }

    /// The words for the error.
    pub(super) fn error_text(&self) -> String {
        // SAFETY: the message is alive; the text is static or the message's own, and is copied.
        unsafe { text(ffi::rd_kafka_message_errstr(self.raw)) }
    }

    pub(super) fn partition(&self) -> PartitionId {
        PartitionId(self.raw.partition)
    }

    pub(super) fn offset(&self) -> i64 {
        self.raw.offset
    }

    pub(super) fn timestamp(&self) -> Micros {
        let mut kind = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive and `kind` is a place to write to.
        let millis = unsafe { ffi::rd_kafka_message_timestamp(self.raw, &mut kind) };
        if millis < 0 { NO_TIMESTAMP } else { millis.saturating_mul(1000) }
    }

    pub(super) fn value(&self) -> Option<&'a [u8]> {
        // SAFETY: librdkafka gives a pointer and the number of bytes behind it, which live as long as the message.
        unsafe { bytes(self.raw.payload, self.raw.len) }
    }

    pub(super) fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: as for the value.
        unsafe { bytes(self.raw.key, self.raw.key_len) }
    }
}

impl Consumer {
    pub(super) fn new(
        config: &ClientConfig,
        native: NativeClientConfig,
        topic: &str,
    ) -> KafkaResult<Consumer> {
        // SAFETY: the configuration is alive; the functions have the signatures asked for and do not unwind.
        unsafe {
            ffi::rd_kafka_conf_set_error_cb(native.ptr(), Some(on_error));
            ffi::rd_kafka_conf_set_log_cb(native.ptr(), Some(on_log));
        }
        let topic = CString::new(topic)?;
        // The client hands the context to the calls back as their opaque pointer, and keeps it alive.
        let client = Client::new(config, native, RDKafkaType::RD_KAFKA_CONSUMER, Connection::default())?;
        // SAFETY: the client is alive.
        let queue = unsafe { ffi::rd_kafka_queue_get_consumer(client.native_ptr()) };
        if queue.is_null() {
            return Err(KafkaError::ClientCreation("a consumer without a group has no queue".into()));
        }
        let queue = Queue(queue);
        // SAFETY: the client is alive.
        let answers = Queue(unsafe { ffi::rd_kafka_queue_new(client.native_ptr()) });
        Ok(Consumer { queue, answers, client, topic, messages: Vec::new() })
    }

    /// For metadata, which the crate wraps well.
    pub(super) fn client(&self) -> &Client<Connection> {
        &self.client
    }

    pub(super) fn connection(&self) -> &Connection {
        self.client.context()
    }

    /// Runs the calls back that are due: logs and troubles. Does not block.
    pub(super) fn serve(&self) {
        // SAFETY: the client is alive, and the calls back are ours.
        unsafe { ffi::rd_kafka_poll(self.client.native_ptr(), 0) };
    }

    /// Reads these partitions too, from these offsets.
    pub(super) fn assign(&self, partitions: impl Iterator<Item = (PartitionId, i64)>) -> Result<(), String> {
        let list = self.list(partitions);
        // SAFETY: client and list are alive, and the list is copied.
        unsafe { outcome(ffi::rd_kafka_incremental_assign(self.client.native_ptr(), list.ptr())) }
    }

    /// Reads an assigned partition from another offset; what is queued of it is forgotten.
    pub(super) fn assign_again(&self, partition: PartitionId, offset: i64) -> Result<(), String> {
        let list = self.list(std::iter::once((partition, offset)));
        // SAFETY: client and list are alive, and the list is copied.
        unsafe { outcome(ffi::rd_kafka_incremental_unassign(self.client.native_ptr(), list.ptr()))? };
        self.assign(std::iter::once((partition, offset)))
    }

    /// Shows up to `max` entries of the queue, waiting up to `timeout` until there are so many. Says how many.
    pub(super) fn consume(
        &mut self,
        max: usize,
        timeout: Duration,
        mut show: impl FnMut(Message<'_>),
    ) -> usize {
        self.messages.clear();
        self.messages.reserve(max);
        let millis = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the queue is alive, and there is room for `max` pointers, of which the first `count` are written.
        // Each is a message that is ours until it is destroyed, right after it was shown. If `show` panics, the rest
        // leak and nothing dangles.
        unsafe {
            let count =
                ffi::rd_kafka_consume_batch_queue(self.queue.0, millis, self.messages.as_mut_ptr(), max);
            // -1 is for a wrong argument alone.
            let count = usize::try_from(count).expect("the queue and the room are real");
            for place in 0..count {
                let message = *self.messages.as_ptr().add(place);
                show(Message { raw: &*message, _of_the_queue: PhantomData });
                ffi::rd_kafka_message_destroy(message);
            }
            count
        }
    }

    /// How many entries the queue holds; does not block.
    pub(super) fn queued(&self) -> usize {
        // SAFETY: the queue is alive.
        unsafe { ffi::rd_kafka_queue_length(self.queue.0) }
    }

    /// First and next offset of the partition as the last fetch saw them; does not block.
    pub(super) fn known_range(&self, partition: PartitionId) -> Option<(Offset, Offset)> {
        let (mut low, mut high) = (-1, -1);
        // SAFETY: client and topic are alive, and there are two places to write to.
        let error = unsafe {
            let (client, topic) = (self.client.native_ptr(), self.topic.as_ptr());
            ffi::rd_kafka_get_watermark_offsets(client, topic, partition.0, &mut low, &mut high)
        };
        let known = error == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && low >= 0 && high >= 0;
        known.then_some((Offset(low), Offset(high)))
    }

    /// Asks the brokers where the partitions end, what is in open transactions included. Does not block; the answer
    /// comes within the time, and if it cannot it names no partition.
    pub(super) fn ask_ends(&self, partitions: impl Iterator<Item = PartitionId>, within: Duration) {
        const END: i64 = ffi::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64;
        let list = self.list(partitions.map(|partition| (partition, END)));
        let millis = c_int::try_from(within.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: client, list and queue are alive; list and options are copied, and the options are ours to destroy.
        // A timeout out of range would be refused, and then the client's own holds.
        unsafe {
            let options = ffi::rd_kafka_AdminOptions_new(
                self.client.native_ptr(),
                ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS,
            );
            ffi::rd_kafka_AdminOptions_set_request_timeout(options, millis, std::ptr::null_mut(), 0);
            ffi::rd_kafka_ListOffsets(self.client.native_ptr(), list.ptr(), options, self.answers.0);
            ffi::rd_kafka_AdminOptions_destroy(options);
        }
    }

    /// Answers that were asked for and come later are not heard.
    pub(super) fn forget_answers(&mut self) {
        // SAFETY: the client is alive. librdkafka holds the old queue for as long as it answers to it.
        self.answers = Queue(unsafe { ffi::rd_kafka_queue_new(self.client.native_ptr()) });
    }

    /// The answer to [`ask_ends`](Self::ask_ends), if it has come. A partition about which there is none is left out.
    pub(super) fn answered_ends(&self) -> Option<Vec<(PartitionId, Offset)>> {
        // SAFETY: the queue is alive. The event is ours to destroy; what is read from it lives as long as it.
        unsafe {
            let event = ffi::rd_kafka_queue_poll(self.answers.0, 0);
            if event.is_null() {
                return None;
            }
            let mut ends = Vec::new();
            let result = ffi::rd_kafka_event_ListOffsets_result(event);
            if !result.is_null()
                && ffi::rd_kafka_event_error(event) == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                let mut count = 0;
                let infos = ffi::rd_kafka_ListOffsets_result_infos(result, &mut count);
                for place in 0..count {
                    let end = &*ffi::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(place));
                    if end.err == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && end.offset >= 0 {
                        ends.push((PartitionId(end.partition), Offset(end.offset)));
                    }
                }
            }
            ffi::rd_kafka_event_destroy(event);
            Some(ends)
        }
    }

    /// For each partition the first offset whose record is not older than so many milliseconds, or −1 if none is. The
    /// times −2 and −1 ask for the first offset and the end. Blocks.
    pub(super) fn offsets_at(
        &self,
        times: impl Iterator<Item = (PartitionId, i64)>,
        timeout: Duration,
    ) -> Result<Vec<(PartitionId, i64)>, RDKafkaErrorCode> {
        let list = self.list(times);
        let millis = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: client and list are alive; the list's times are replaced by offsets, and by errors.
        unsafe {
            let error = ffi::rd_kafka_offsets_for_times(self.client.native_ptr(), list.ptr(), millis);
            if error != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(error.into());
            }
            let elements = match (*list.ptr()).cnt {
                0 => &[],
                count => std::slice::from_raw_parts((*list.ptr()).elems, count as usize),
            };
            let offset = |element: &ffi::rd_kafka_topic_partition_t| match element.err {
                ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    Ok((PartitionId(element.partition), element.offset))
                }
                error => Err(error.into()),
            };
            elements.iter().map(offset).collect()
        }
    }

    /// The topic's settings, by name. Blocks.
    pub(super) fn topic_settings(&self, within: Duration) -> Result<Vec<(String, String)>, String> {
        use ffi::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        use ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
        let client = self.client.native_ptr();
        // SAFETY: client and topic are alive. The resource is ours to destroy, and is copied.
        let ask = |options: *mut ffi::rd_kafka_AdminOptions_t, answers| unsafe {
            let mut resource = ffi::rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, self.topic.as_ptr());
            ffi::rd_kafka_DescribeConfigs(client, &mut resource, 1, options, answers);
            ffi::rd_kafka_ConfigResource_destroy(resource);
        };
        // SAFETY: the event is alive.
        let settings = |event| unsafe { settings_of(event) };
        answer(&self.client, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, within, ask, settings)
            .unwrap_or_else(|| Err("no answer".into()))
    }

    /// Sends the offsets to the group and does not wait for the answer.
    pub(super) fn commit(&self, offsets: &[(PartitionId, Offset)]) -> Result<(), RDKafkaErrorCode> {
        let list = self.list(offsets.iter().map(|&(partition, offset)| (partition, offset.0)));
        // SAFETY: client and list are alive, and the list is copied.
        let error = unsafe { ffi::rd_kafka_commit(self.client.native_ptr(), list.ptr(), 1) };
        if error == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(error.into()) }
    }

    fn list(&self, partitions: impl Iterator<Item = (PartitionId, i64)>) -> TopicPartitionList {
        let list = TopicPartitionList::new();
        for (partition, number) in partitions {
            // SAFETY: the list is alive and the topic's name is copied into it; the entry is the list's own. The
            // crate's wrapper takes no times, and looks each entry up again.
            unsafe {
                let entry =
                    ffi::rd_kafka_topic_partition_list_add(list.ptr(), self.topic.as_ptr(), partition.0);
                (*entry).offset = number;
            }
        }
        list
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // SAFETY: the client is alive. Without this its destruction would try to leave the group in the background.
        unsafe { ffi::rd_kafka_consumer_close(self.client.native_ptr()) };
    }
}

/// What a topic is known by, whatever its name; `None` of brokers before 2.8, which have no such thing. Blocks.
pub(super) fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    within: Duration,
) -> Result<Option<TopicId>, RDKafkaErrorCode> {
    use ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    let topic = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
    // SAFETY: client and topic are alive. The collection is ours to destroy, and is copied.
    let ask = |options: *mut ffi::rd_kafka_AdminOptions_t, answers| unsafe {
        let mut name = topic.as_ptr();
        let topics = ffi::rd_kafka_TopicCollection_of_topic_names(&mut name, 1);
        ffi::rd_kafka_DescribeTopics(client.native_ptr(), topics, options, answers);
        ffi::rd_kafka_TopicCollection_destroy(topics);
    };
    // SAFETY: the event is alive.
    let id = |event| unsafe { id_of(event) };
    answer(client, RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, within, ask, id)
        .unwrap_or(Err(RDKafkaErrorCode::OperationTimedOut))
}

/// Asks the brokers by `ask` and shows `read` what they answer; `None` if they do not.
fn answer<C: ClientContext, T>(
    client: &Client<C>,
    operation: ffi::rd_kafka_admin_op_t,
    within: Duration,
    ask: impl FnOnce(*mut ffi::rd_kafka_AdminOptions_t, *mut ffi::rd_kafka_queue_t),
    read: impl FnOnce(*mut ffi::rd_kafka_event_t) -> T,
) -> Option<T> {
    let millis = c_int::try_from(within.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: the client is alive. Options and queue are ours to destroy and are copied, or held for as long as librdkafka
    // answers to them; the event is ours, and is destroyed when it has been read.
    unsafe {
        let options = ffi::rd_kafka_AdminOptions_new(client.native_ptr(), operation);
        ffi::rd_kafka_AdminOptions_set_request_timeout(options, millis, std::ptr::null_mut(), 0);
        let answers = Queue(ffi::rd_kafka_queue_new(client.native_ptr()));
        ask(options, answers.0);
        ffi::rd_kafka_AdminOptions_destroy(options);
        let event = ffi::rd_kafka_queue_poll(answers.0, millis);
        if event.is_null() {
            return None;
        }
        let told = read(event);
        ffi::rd_kafka_event_destroy(event);
        Some(told)
    }
}

/// # Safety
/// The event is alive.
unsafe fn id_of(event: *mut ffi::rd_kafka_event_t) -> Result<Option<TopicId>, RDKafkaErrorCode> {
    // SAFETY: the caller's promise; what is read from the event lives as long as it.
    unsafe {
        let result = ffi::rd_kafka_event_DescribeTopics_result(event);
        let error = ffi::rd_kafka_event_error(event);
        if result.is_null() || error != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(error.into());
        }
        let mut count = 0;
        let first = ffi::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if count == 0 {
            return Err(RDKafkaErrorCode::UnknownTopic);
        }
        let error = ffi::rd_kafka_error_code(ffi::rd_kafka_TopicDescription_error(*first));
        if error != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(error.into());
        }
        let id = ffi::rd_kafka_TopicDescription_topic_id(*first);
        Ok((!id.is_null()).then(|| text(ffi::rd_kafka_Uuid_base64str(id))).and_then(|id| TopicId::told(&id)))
    }
}

/// # Safety
/// `error` is null or an error that is the caller's to destroy.
unsafe fn outcome(error: *mut ffi::rd_kafka_error_t) -> Result<(), String> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the caller's promise.
    unsafe {
        let reason = text(ffi::rd_kafka_error_string(error));
        ffi::rd_kafka_error_destroy(error);
        Err(reason)
    }
}

/// # Safety
/// The event is alive.
unsafe fn settings_of(event: *mut ffi::rd_kafka_event_t) -> Result<Vec<(String, String)>, String> {
    // SAFETY: the caller's promise; what is read from the event lives as long as it.
    unsafe {
        let result = ffi::rd_kafka_event_DescribeConfigs_result(event);
        if result.is_null()
            || ffi::rd_kafka_event_error(event) != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return Err(text(ffi::rd_kafka_event_error_string(event)));
        }
        let (mut resources, mut count) = (0, 0);
        let first = ffi::rd_kafka_DescribeConfigs_result_resources(result, &mut resources);
        if resources == 0 {
            return Err("the answer names no topic".into());
        }
        let topic = *first;
        if ffi::rd_kafka_ConfigResource_error(topic) != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(text(ffi::rd_kafka_ConfigResource_error_string(topic)));
        }
        let entries = ffi::rd_kafka_ConfigResource_configs(topic, &mut count);
        let setting = |place: usize| {
            let entry = *entries.add(place);
            (text(ffi::rd_kafka_ConfigEntry_name(entry)), text(ffi::rd_kafka_ConfigEntry_value(entry)))
        };
        Ok((0..count).map(setting).collect())
    }
}

/// # Safety
/// `text` is null or a C string that lives during the call.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned()
}

/// # Safety
/// `start` is null or the start of `len` bytes that live as long as `'a`.
unsafe fn bytes<'a>(start: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast(), len) })
}

unsafe extern "C" fn on_error(
    _client: *mut ffi::rd_kafka_t,
    code: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    let code =
        ffi::rd_kafka_resp_err_t::try_from(code).map_or(RDKafkaErrorCode::Unknown, RDKafkaErrorCode::from);
    // SAFETY: `Client` sets the opaque pointer to the context it owns, and the reason lives during the call.
    unsafe { (*opaque.cast_const().cast::<Connection>()).trouble(code, text(reason)) }
}

/// librdkafka tells troubles by both calls back, and this one in storms; so it speaks to developers only, but for the one
/// line that says which topic is read from there on.
unsafe extern "C" fn on_log(
    client: *const ffi::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    line: *const c_char,
) {
    // SAFETY: both are C strings that live during the call.
    let (facility, line) = unsafe { (text(facility), text(line)) };
    // SAFETY: `Client` sets the opaque pointer to the context it owns.
    let connection = unsafe { ffi::rd_kafka_opaque(client).cast_const().cast::<Connection>().as_ref() };
    if let Some(connection) = connection {
        connection.logged(&line);
    }
    tracing::debug!(target: "librdkafka", level, facility, line);
}
