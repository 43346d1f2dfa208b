//! From a stream's options to librdkafka's properties: our defaults, the user's properties over them, and the few that
//! correctness needs, which nobody may change.

use std::path::{Component, Path};

use rdkafka::ClientConfig;
use rdkafka::config::{NativeClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;

use super::connection::LOGGED;
use super::transactions::Patience;
use crate::secrets::Secrets;
use crate::source::FilesRoots;
use crate::spec::KafkaSpec;
use crate::{Error, Result};

/// What exactly once rests on, with the reason that a user who sets one of them is told.
const FIXED: [(&str, &str, &str); 6] = [
    ("enable.auto.commit", "false", "offsets live in Thalweg's own checkpoints"),
    ("enable.auto.offset.store", "false", "offsets live in Thalweg's own checkpoints"),
    ("auto.offset.reset", "error", "a lost range must stop the stream, not be skipped"),
    ("isolation.level", "read_committed", "an aborted transaction must not be counted"),
    ("enable.partition.eof", "true", "idle partitions are told by it"),
    ("check.crcs", "true", "a damaged record must not be read"),
];

/// Properties that say what options of the stream say.
const OPTIONS: [(&str, &str); 2] = [("bootstrap.servers", "brokers"), ("metadata.broker.list", "brokers")];

/// What would load a library into this process, run a program or write a file: not by a statement.
const REFUSED: [&str; 6] = [
    "plugin.library.paths",
    "ssl.engine.location",
    "ssl.providers",
    "sasl.kerberos.kinit.cmd",
    "offset.store.path",
    "offset.store.method",
];

/// What names files of this machine, by how their names end.
const PATHS: [&str; 3] = [".location", ".keytab", ".file"];

/// Of `ssl.ca.location`: where the system keeps its own.
const SYSTEMS_OWN: &str = "probe";

const DEFAULTS: [(&str, &str); 5] = [
    ("client.id", "thalweg"),
    // With a full queue librdkafka waits this long before it looks again; its default of a second starves a fast
    // reader.
    ("fetch.queue.backoff.ms", "2"),
    ("fetch.error.backoff.ms", "100"),
    ("reconnect.backoff.max.ms", "1000"),
    ("socket.keepalive.enable", "true"),
];

/// How long a broker may gather records for one answer, in milliseconds: at least what a reader never notices. What an
/// answer costs the broker goes by the partitions that are asked for, so with many it is asked less often.
fn fetch_wait(partitions: usize) -> usize {
    (partitions / 12).clamp(5, 50)
}

/// What librdkafka keeps for each queued record beside its bytes.
pub(super) const RECORD_BYTES: usize = 1 << 10;

/// What is queued at most, in records and in KiB of their bytes. Kept small, for there is one queue per worker; at a gigabyte a
/// second the largest still holds 30 ms. The smallest still holds one record of the size that a topic takes by default.
fn queued(bytes: usize) -> (usize, usize) {
    let records = (bytes / 2 / RECORD_BYTES).clamp(1_000, 200_000);
    let kbytes = ((bytes / 2) >> 10).clamp(1_024, 32_768);
    (records, kbytes)
}

/// What a broker may answer of one partition, in bytes as they are in the topic. What comes of them may be ten times as much and a
/// great many records, and is queued whatever the queue may hold; so it goes by that where that is small.
fn fetched(queue_bytes: usize, partitions: usize) -> usize {
    (queue_bytes / 64 / partitions.max(1)).clamp(16 << 10, 1 << 20)
}

/// A broker answers when so much has come, or when the time that `fetch_wait` gives is over. With the default of one byte
/// it is asked again for each handful of records, which costs both sides more than the records do.
fn worth_an_answer(of_partition: usize, partitions: usize) -> usize {
    (of_partition * partitions.max(1) / 2).min(1_000_000)
}

/// The group that offsets are published to, for people to look at.
pub(super) fn group(spec: &KafkaSpec) -> String {
    spec.properties.get("group.id").cloned().unwrap_or_else(|| format!("thalweg-{}", spec.topic))
}

/// Refuses files that a statement may not name: whoever creates a stream may not for that read the disk of the server.
pub(in crate::source) fn check_paths(spec: &KafkaSpec, secrets: &Secrets, roots: &FilesRoots) -> Result<()> {
    let roots = roots.and(secrets.folder());
    let names_file = |key: &str| PATHS.iter().any(|end| key.ends_with(end)) && !REFUSED.contains(&key);
    for (key, value) in spec.properties.iter().filter(|(key, value)| names_file(key) && *value != SYSTEMS_OWN)
    {
        let path = Path::new(value);
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let has_dots = path.components().any(|part| part == Component::ParentDir);
        if matches!(roots, FilesRoots::Below(_)) && has_dots || roots.check(&absolute).is_err() {
            return Err(Error::Invalid(format!(
                "a Kafka property names a file that no statement may. key={key:?}, path={value:?}; it lies below a folder of \
                 --files-root (without that, the folder of the SQL file given to serve) or of --secrets, or its text is the \
                 value of the property that ends with .pem"
            )));
        }
    }
    Ok(())
}

/// For a client that reads so many partitions, and fetches about so much ahead.
pub(super) fn client_config(
    spec: &KafkaSpec,
    partitions: usize,
    queue_bytes: usize,
) -> Result<(ClientConfig, NativeClientConfig)> {
    for (key, value) in &spec.properties {
        if let Some((key, fixed, why)) = FIXED.iter().find(|(fixed, ..)| fixed == key) {
            return Err(Error::Invalid(format!(
                "a Kafka property cannot be set. key={key:?}, value={value:?}, always={fixed:?}; {why}"
            )));
        }
        if REFUSED.contains(&key.as_str()) {
            return Err(Error::Invalid(format!(
                "a Kafka property cannot be set. key={key:?}; a statement loads, runs and writes nothing here"
            )));
        }
        if let Some((key, option)) = OPTIONS.iter().find(|(name, _)| name == key) {
            return Err(Error::Invalid(format!(
                "a Kafka property cannot be set. key={key:?}; say it with the option {option:?}"
            )));
        }
    }
    if spec.properties.get("group.id").is_some_and(|group| group.trim().is_empty()) {
        return Err(Error::Invalid(
            "a Kafka property is refused. key=\"group.id\"; offsets are published to the group of that name, so it has one: leave \
             it out for thalweg-TOPIC"
                .into(),
        ));
    }
    if spec.brokers.trim().is_empty() {
        return Err(Error::Invalid(
            "a Kafka stream needs brokers, such as brokers = 'localhost:9092'".into(),
        ));
    }
    if spec.topic.is_empty() || spec.topic.contains('\0') {
        return Err(Error::Invalid(format!(
            "a Kafka stream needs the name of a topic. topic={:?}",
            spec.topic
        )));
    }
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Debug);
    config.set("bootstrap.servers", &spec.brokers).set("group.id", group(spec));
    config.set("fetch.wait.max.ms", fetch_wait(partitions).to_string());
    let (records, kbytes) = queued(queue_bytes);
    config.set("queued.min.messages", records.to_string());
    config.set("queued.max.messages.kbytes", kbytes.to_string());
    let of_partition = fetched(queue_bytes, partitions);
    // The client knows it by two names.
    if !spec.properties.contains_key("fetch.message.max.bytes") {
        config.set("max.partition.fetch.bytes", of_partition.to_string());
    }
    config.set("fetch.min.bytes", worth_an_answer(of_partition, partitions).to_string());
    let defaults = DEFAULTS.iter().map(|&(key, value)| (key, value));
    let chosen = spec.properties.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let fixed = FIXED.iter().map(|&(key, value, _)| (key, value));
    for (key, value) in defaults.chain(chosen).chain(fixed) {
        config.set(key, value);
    }
    let also = spec.properties.get("debug").map_or(String::new(), |debug| format!(",{debug}"));
    config.set("debug", format!("{LOGGED}{also}"));
    let native = config.create_native_config().map_err(|error| match error {
        // The value stays out of the text, for it may be a secret.
        KafkaError::ClientConfig(_, reason, key, _) => {
            Error::Invalid(format!("a Kafka property is refused. key={key:?}; {}", reason.to_lowercase()))
        }
        error => Error::Invalid(format!("the Kafka properties are refused. {error}")),
    })?;
    Ok((config, native))
}

/// Of the user's properties, those that say how a broker is reached.
const CONNECTION: [&str; 7] = ["security.", "sasl.", "ssl.", "socket.", "broker.", "client.", "reconnect."];

/// What a record waits for others to go with it, and for a broker that does not answer.
const PRODUCER: [(&str, &str); 6] = [
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("compression.type", "lz4"),
    ("linger.ms", "2"),
    ("message.timeout.ms", "5000"),
    ("queue.buffering.max.kbytes", "65536"),
];

/// For a client that writes to the topic.
pub(super) fn producer_config(spec: &KafkaSpec) -> Result<ClientConfig> {
    // What a reader refuses, a writer does.
    client_config(spec, 0, 0)?;
    let mut config = connection_config(spec);
    for (key, value) in PRODUCER {
        config.set(key, value);
    }
    Ok(config)
}

/// How a broker is reached, and no more.
pub(super) fn connection_config(spec: &KafkaSpec) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Warning);
    config.set("bootstrap.servers", &spec.brokers).set("client.id", "thalweg");
    let connects = |key: &str| CONNECTION.iter().any(|prefix| key.starts_with(prefix));
    for (key, value) in spec.properties.iter().filter(|(key, _)| connects(key)) {
        config.set(key, value);
    }
    config
}

/// Of the user's properties, those that say how records are sent.
const SENDING: [&str; 6] = [
    "compression.",
    "message.max.bytes",
    "message.copy.max.bytes",
    "linger.ms",
    "batch.",
    "queue.buffering.",
];

/// Refuses properties that would be of no use to who sends.
pub(super) fn check_sending(spec: &KafkaSpec) -> Result<()> {
    let is_of_use = |key: &str| CONNECTION.iter().chain(&SENDING).any(|prefix| key.starts_with(prefix));
    match spec.properties.keys().find(|key| !is_of_use(key)) {
        None => Ok(()),
        Some(key) => Err(Error::Invalid(format!(
            "a Kafka property cannot be set for what is sent. key={key:?}; those that begin with {} can, and those of the \
             connection: {}",
            SENDING.join(", "),
            CONNECTION.join(", ")
        ))),
    }
}

/// For a client that writes to the topic by transactions under a name of its own. What one that died has begun holds up
/// those who read committed records for so long, if nobody takes over.
pub(super) fn transactions_config(spec: &KafkaSpec, id: &str, patience: &Patience) -> Result<ClientConfig> {
    let mut config = producer_config(spec)?;
    config.set("transactional.id", id);
    config.set("transaction.timeout.ms", patience.transaction.as_millis().to_string());
    config.set("message.timeout.ms", patience.record.as_millis().to_string());
    for (key, value) in spec.properties.iter().filter(|(key, _)| SENDING.iter().any(|it| key.starts_with(it)))
    {
        config.set(key, value);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(key: &str, value: &str) -> Option<String> {
        let properties = [(key.to_owned(), value.to_owned())].into();
        let spec = KafkaSpec { brokers: "localhost:1".into(), topic: "clicks".into(), properties };
        match client_config(&spec, 4, 1 << 30) {
            Ok((_, native)) => {
                assert_eq!(native.get(key).unwrap(), value, "the user's value wins");
                assert_eq!(native.get("isolation.level").unwrap(), "read_committed");
                None
            }
            Err(Error::Invalid(text)) => Some(text),
            Err(error) => panic!("{error:?}"),
        }
    }

    #[test]
    fn a_users_property_wins_unless_correctness_needs_it() {
        assert_eq!(refusal("fetch.wait.max.ms", "7"), None);
        assert_eq!(refusal("group.id", "shop"), None);
        for (key, ..) in FIXED {
            assert!(refusal(key, "true").unwrap().contains(key));
        }
        assert_eq!(
            refusal("auto.offset.reset", "earliest").unwrap(),
            "a Kafka property cannot be set. key=\"auto.offset.reset\", value=\"earliest\", always=\"error\"; a lost \
             range must stop the stream, not be skipped"
        );
        assert!(
            refusal("plugin.library.paths", "/tmp/x.so").unwrap().contains("loads, runs and writes nothing")
        );
        assert!(refusal("bootstrap.servers", "b:9092").unwrap().contains("the option \"brokers\""));
    }

    #[test]
    fn files_lie_below_the_folders_of_files_and_secrets() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["files", "secrets", "other"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join("a.pem"), "").unwrap();
        }
        std::os::unix::fs::symlink(folder.path().join("other"), folder.path().join("files/out")).unwrap();
        let roots = FilesRoots::below(&[folder.path().join("files")]).unwrap();
        let secrets = Secrets::new(std::iter::empty(), Some(folder.path().join("secrets")));
        let checked = |key: &str, value: String, roots: &FilesRoots| {
            let properties = [(key.to_owned(), value)].into();
            let spec = KafkaSpec { brokers: "b:1".into(), topic: "t".into(), properties };
            check_paths(&spec, &secrets, roots)
        };
        let at = |path: &str| folder.path().join(path).display().to_string();
        for key in
            ["ssl.ca.location", "ssl.key.location", "sasl.kerberos.keytab", "sasl.oauthbearer.assertion.file"]
        {
            for path in ["files/a.pem", "files", "secrets/a.pem"] {
                checked(key, at(path), &roots).unwrap();
            }
            for path in ["other/a.pem", "files/out/a.pem", "files/../other/a.pem", "nothing", ""] {
                let error = checked(key, at(path), &roots).unwrap_err().to_string();
                assert!(error.contains(key) && error.contains("--files-root"), "{error}");
                checked(key, at(path), &FilesRoots::Anywhere).unwrap();
            }
            checked(key, "/etc/passwd".into(), &FilesRoots::default()).unwrap_err();
        }
        checked("ssl.ca.location", "probe".into(), &roots).unwrap();
        checked("client.id", at("other/a.pem"), &roots).unwrap();
    }

    #[test]
    fn a_stream_needs_brokers_and_a_topic() {
        for (brokers, topic, said) in
            [(" ", "clicks", "needs brokers"), ("localhost:1", "", "name of a topic")]
        {
            let spec =
                KafkaSpec { brokers: brokers.into(), topic: topic.into(), properties: Default::default() };
            let error = client_config(&spec, 4, 1 << 30).err().expect(said);
            assert!(error.kind() == crate::ErrorKind::Invalid && error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn a_bad_property_is_named_and_its_value_is_not() {
        let text = refusal("sasl.passwort", "s3cret").unwrap();
        assert!(text.contains("sasl.passwort") && !text.contains("s3cret"), "{text}");
        let text = refusal("fetch.wait.max.ms", "s3cret").unwrap();
        assert!(text.contains("fetch.wait.max.ms") && !text.contains("s3cret"), "{text}");
    }
}
