//! The real binary as a process: started, asked over Flight SQL, and ended in every way a process can end.
//!
//! Every wait has a limit. What an instance logged is part of every failure.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use hyper::StatusCode;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use crate::asking::get;

/// A start includes planning and, after a crash, reading state; debug builds on a busy machine take their time.
const START_MAX: Duration = Duration::from_secs(60);
const QUERY_MAX: Duration = Duration::from_secs(60);
/// What the product promises for a SIGTERM.
const STOP_MAX: Duration = Duration::from_secs(10);
const END_MAX: Duration = Duration::from_secs(60);

/// Values as text, row by row.
pub type Rows = Vec<Vec<String>>;

/// How to start: the same file and data each time.
#[derive(Clone)]
pub struct Launch {
    pub script: PathBuf,
    pub data: String,
    pub environment: Vec<(String, String)>,
    pub flags: Vec<String>,
    /// A line of shell before the binary takes the shell's place.
    pub through: Option<&'static str>,
    /// The script is not given: its folder is where the process runs, and no more.
    pub bare: bool,
}

pub struct Instance {
    child: Child,
    log: PathBuf,
    address: String,
    http: Option<String>,
    client: Option<FlightSqlServiceClient<Channel>>,
}

/// The binary that cargo built beside this test, or one that was built otherwise (`scripts/sanitize-engine.sh`).
pub fn binary() -> Result<PathBuf> {
    if let Some(other) = std::env::var_os("THALWEG_BINARY") {
        return Ok(PathBuf::from(other));
    }
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("a test runs in target/PROFILE/deps")?;
    let binary = folder.join("thalweg");
    ensure!(
        binary.exists(),
        "{} is missing; cargo build --workspace --bins, or cargo test --workspace",
        binary.display()
    );
    Ok(binary)
}

/// Every test can be run without the process that runs queries, or with several: `THALWEG_READERS=0`. A test that says how many is left alone.
fn readers(flags: &[String]) -> Option<[String; 2]> {
    if flags.iter().any(|flag| flag == "--readers") {
        return None;
    }
    std::env::var("THALWEG_READERS").ok().map(|count| ["--readers".to_owned(), count])
}

impl Launch {
    /// The same data, and no file of SQL.
    pub fn without_script(&self) -> Launch {
        Launch { bare: true, ..self.clone() }
    }

    /// Starts the process and does not wait for anything.
    pub fn spawn(&self, more: &[&str]) -> Result<Instance> {
        let log = self.script.with_file_name("log");
        let stderr = std::fs::File::options().create(true).append(true).open(&log)?;
        let epoch =
            if self.flags.iter().any(|flag| flag == "--epoch") { &[][..] } else { &["--epoch", "100ms"] };
        let mut command = match self.through {
            None => Command::new(binary()?),
            Some(line) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("{line}; exec \"$0\" \"$@\"")]).arg(binary()?);
                shell
            }
        };
        let child = command
            // Where the paths of a script's files begin.
            .current_dir(self.script.parent().context("a script lies in a folder")?)
            .arg("serve")
            .args((!self.bare).then_some(&self.script))
            .args(["--data", &self.data, "--flight", "127.0.0.1:0"])
            .args(epoch)
            .args(&self.flags)
            .args(readers(&self.flags).into_iter().flatten())
            .args(more)
            .envs(self.environment.iter().cloned())
            .env("RUST_LOG", "warn,thalweg=info,thalweg_engine=info,thalweg_readers=info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .context("the binary does not start")?;
        let http = self.flags.iter().any(|flag| flag == "--http").then(String::new);
        Ok(Instance { child, log, address: String::new(), http, client: None })
    }

    /// What `thalweg doctor` says of the data, and whether it finds nothing wrong.
    pub async fn doctor(&self) -> Result<(bool, String)> {
        let mut command = Command::new(binary()?);
        let told = command.arg("doctor").arg(&self.data).envs(self.environment.iter().cloned());
        let told = timeout(QUERY_MAX, told.output()).await??;
        Ok((told.status.success(), String::from_utf8(told.stdout)?))
    }

    /// Starts the process and waits until it serves.
    pub async fn start(&self, more: &[&str]) -> Result<Instance> {
        let mut instance = self.spawn(more)?;
        instance.await_address().await?;
        Ok(instance)
    }
}

impl Instance {
    /// Waits until it serves.
    pub async fn await_address(&mut self) -> Result<()> {
        let stdout = self.child.stdout.take().context("the address was read before")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = match timeout(START_MAX, lines.next_line()).await {
            Ok(line) => line?,
            Err(_) => bail!("it does not serve within {START_MAX:?}\n{}", self.logged()),
        };
        let said = line.as_deref().and_then(|line| line.strip_prefix("Flight SQL listens on "));
        let Some(address) = said else {
            bail!("it ended, or said something else, before it served: {line:?}\n{}", self.logged());
        };
        self.address = address.to_owned();
        if let Some(http) = &mut self.http {
            let line = timeout(START_MAX, lines.next_line()).await.context("no word of HTTP")??;
            let said = line.as_deref().and_then(|line| line.strip_prefix("HTTP listens on http://"));
            *http = said.with_context(|| format!("it said something else: {line:?}"))?.to_owned();
            // It listens before it can answer more than how it is.
            let starting = async {
                while get(http, "/api", &[]).await?.status == StatusCode::SERVICE_UNAVAILABLE {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok::<_, anyhow::Error>(())
            };
            timeout(START_MAX, starting).await.context("it is starting for ever")??;
        }
        self.connect().await
    }

    /// HOST:PORT, once it serves.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// HOST:PORT of HTTP, where a flag asked for it.
    pub fn http(&self) -> Result<&str> {
        self.http.as_deref().context("--http is not among the flags")
    }

    /// Asks through a new connection from now on.
    pub async fn connect(&mut self) -> Result<()> {
        let connected =
            timeout(QUERY_MAX, Endpoint::from_shared(format!("http://{}", self.address))?.connect()).await;
        self.client = Some(FlightSqlServiceClient::new(connected.context("no connection")??));
        Ok(())
    }

    pub async fn query(&self, sql: &str) -> Result<Rows> {
        rows(&self.batches(sql, QUERY_MAX).await?)
    }

    pub async fn batches(&self, sql: &str, within: Duration) -> Result<Vec<RecordBatch>> {
        let answer = timeout(within, self.ask(sql)).await;
        answer
            .with_context(|| format!("no answer within {within:?}"))
            .flatten()
            .with_context(|| format!("{sql}\n{}", self.logged()))
    }

    /// Carries out a statement that has no rows.
    pub async fn command(&self, sql: &str) -> Result<()> {
        let done = timeout(QUERY_MAX, async {
            self.client()?.execute_update(sql.to_owned(), None).await.map_err(Into::into)
        });
        let done = done.await.with_context(|| format!("no answer within {QUERY_MAX:?}")).flatten();
        done.with_context(|| format!("{sql}\n{}", self.logged()))?;
        Ok(())
    }

    /// The only value of a query.
    pub async fn number(&self, sql: &str) -> Result<i64> {
        let rows = self.query(sql).await?;
        let [row] = &rows[..] else { bail!("{} rows, not one: {sql}", rows.len()) };
        row[0].parse().with_context(|| format!("no number: {:?}: {sql}", row[0]))
    }

    /// Asks again until the number is as wanted.
    pub async fn until(&self, sql: &str, within: Duration, so: impl Fn(i64) -> bool) -> Result<i64> {
        let begun = tokio::time::Instant::now();
        loop {
            let number = self.number(sql).await?;
            if so(number) {
                return Ok(number);
            }
            let waited = begun.elapsed();
            ensure!(waited < within, "still {number} after {waited:?}: {sql}\n{}", self.logged());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A connection of one's own, for who wants to see errors as clients do.
    pub fn client(&self) -> Result<FlightSqlServiceClient<Channel>> {
        self.client.clone().context("nobody waited for the address")
    }

    async fn ask(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let mut client = self.client()?;
        let info = client.execute(sql.to_owned(), None).await?;
        let endpoint = info.endpoint.into_iter().next();
        let ticket = endpoint.and_then(|endpoint| endpoint.ticket).context("the answer has no rows")?;
        Ok(client.do_get(ticket).await?.try_collect().await?)
    }

    /// SIGKILL. It must have been alive until then.
    pub async fn kill(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("it ended by itself before it was killed: {status}\n{}", self.logged());
        }
        self.child.kill().await?;
        Ok(())
    }

    /// SIGTERM; it must leave in time, with exit code 0.
    pub async fn terminate(mut self) -> Result<()> {
        self.signal("TERM").await?;
        let status = timeout(STOP_MAX, self.child.wait())
            .await
            .with_context(|| format!("it did not stop within {STOP_MAX:?}\n{}", self.logged()))??;
        ensure!(status.success(), "a SIGTERM ended it by {status}\n{}", self.logged());
        Ok(())
    }

    /// Waits until it ends by itself, or by what was done to it.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let status = timeout(END_MAX, self.child.wait()).await;
        Ok(status.with_context(|| format!("it did not end within {END_MAX:?}\n{}", self.logged()))??)
    }

    /// `STOP`, `CONT`, `TERM`.
    pub async fn signal(&self, name: &str) -> Result<()> {
        let pid = self.child.id().context("it has ended")?;
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().await?;
        ensure!(status.success(), "cannot send {name} to {pid}");
        Ok(())
    }

    /// What the system lets it have from now on, in the words of prlimit.
    pub async fn limit(&self, limit: &str) -> Result<()> {
        let pid = self.child.id().context("it has ended")?.to_string();
        let status = Command::new("prlimit").args(["--pid", &pid, limit]).status().await;
        ensure!(status.context("prlimit, of util-linux")?.success(), "cannot set {limit}");
        Ok(())
    }

    /// The processes that it runs queries in, as they are now.
    pub fn readers(&self) -> Result<Vec<u32>> {
        let pid = self.child.id().context("it has ended")?;
        let mut readers = vec![];
        for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let children = std::fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
            readers.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        Ok(readers)
    }

    /// How often its log says that one of them has ended.
    pub fn readers_ended(&self) -> Result<usize> {
        Ok(std::fs::read_to_string(&self.log)?.matches("a reader has ended").count())
    }

    /// The most that was ever resident.
    pub fn peak_memory_bytes(&self) -> Result<u64> {
        let pid = self.child.id().context("it has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = peak.and_then(|peak| peak.trim().strip_suffix(" kB")).context("no VmHWM")?;
        Ok(kilobytes.trim().parse::<u64>()? << 10)
    }

    pub fn logged(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        format!("--- last lines of its log\n{}", lines[lines.len().saturating_sub(40)..].join("\n"))
    }
}

pub fn rows(batches: &[RecordBatch]) -> Result<Rows> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|column| array_value_to_string(column, row));
            rows.push(values.collect::<Result<_, _>>()?);
        }
    }
    Ok(rows)
}
