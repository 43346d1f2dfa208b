//! `thalweg serve` and `thalweg demo`: the engine, the catalog and the Flight SQL server in one process.
//!
//! Owns: putting the parts together, the order of starting and stopping. A start claims the data, plans again what the
//! manifest names, resumes, runs the given files, and only then listens. A stop goes the other way round.

mod descriptors;
mod memory;
mod options;
mod progress;
mod query_options;
mod trade;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures::FutureExt;
use thalweg_engine::checkpoint::DataRoot;
use thalweg_engine::clock::{Clock, SystemClock};
use thalweg_engine::job::{Engine, Opened, Settings};
use thalweg_engine::source::Logs;
use thalweg_engine::status::StoreStatus;
use thalweg_flight_server::{Limits, Reason};
use thalweg_readers::Readers;
use thalweg_sinks::{Sinks, World};
use thalweg_sql::session::{Client, Database};
use thalweg_web::Front;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::threads;

pub use options::{Common, DemoArguments, ServeArguments};

/// The files of `queries/`, so that the demo needs nothing but the binary. Its clicks come over HTTP, so the stream is
/// another.
const DEMO: [(&str, &str); 11] = [
    ("00_clicks.sql", include_str!("clicks.sql")),
    ("10_kpis.sql", include_str!("../../../queries/10_kpis.sql")),
    ("20_conversion.sql", include_str!("../../../queries/20_conversion.sql")),
    ("30_products.sql", include_str!("../../../queries/30_products.sql")),
    ("40_traffic.sql", include_str!("../../../queries/40_traffic.sql")),
    ("50_users.sql", include_str!("../../../queries/50_users.sql")),
    ("60_archive.sql", include_str!("../../../queries/60_archive.sql")),
    ("65_rollups.sql", include_str!("../../../queries/65_rollups.sql")),
    ("70_daily_report.sql", include_str!("../../../queries/70_daily_report.sql")),
    ("75_alerts.sql", include_str!("../../../queries/75_alerts.sql")),
    ("80_endpoints.sql", include_str!("../../../queries/80_endpoints.sql")),
];

const DEMO_HTTP: &str = "127.0.0.1:8080";

/// A stop waits so long for a store that does not answer.
const STORE_WAITED_FOR: Duration = Duration::from_secs(8);

/// Below the data: the streams' own logs.
const LOGS: &str = "log";

/// By those who call before the server serves.
const START_WAITED_FOR: Duration = Duration::from_secs(3);

const READ_AGAIN: &str = "what the last commit did not reach is read again";

/// SQL and where it came from.
struct Script {
    name: String,
    text: String,
}

pub fn serve(arguments: ServeArguments) -> ExitCode {
    let ServeArguments { files, common } = arguments;
    let scripts = files.iter().map(|file| read(file)).collect::<Result<Vec<_>>>();
    match scripts.and_then(|scripts| Ok((scripts, common.settings(&files)?))) {
        Ok((scripts, settings)) => run(common, settings, scripts, false),
        Err(error) => failed(&error),
    }
}

pub fn demo(mut arguments: DemoArguments) -> ExitCode {
    arguments.common.http.get_or_insert_with(|| DEMO_HTTP.to_owned());
    let script = |(name, text): (&str, &str)| Script { name: name.into(), text: text.into() };
    let scripts = DEMO.into_iter().map(script).collect();
    match arguments.common.settings(&[]) {
        Ok(settings) => run(arguments.common, settings, scripts, true),
        Err(error) => failed(&error),
    }
}

fn read(file: &Path) -> Result<Script> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Script { name: file.display().to_string(), text })
}

fn greeting(common: &Common, flight: SocketAddr, http: Option<SocketAddr>) -> String {
    let connect = match as_given(&common.flight, flight) {
        usual if usual == "127.0.0.1:50051" => String::new(),
        other => format!(" --connect {other}"),
    };
    let http = common.http.as_deref().zip(http);
    let http = http.map_or_else(|| DEMO_HTTP.to_owned(), |(given, bound)| as_given(given, bound));
    format!(
        "A shop of a thousand clicks a second feeds the views of queries/.\n\n  \
         http://{http}        its dashboard\n  \
         http://{http}/shop   a shop of your own: what you click there is counted here\n\n\
         In a second terminal:\n\n  \
         thalweg sql{connect} -c 'SHOW VIEWS'\n  \
         thalweg sql{connect} -c 'SELECT * FROM live.kpis_per_minute'\n  \
         thalweg sql{connect}\n  \
         curl 'http://{http}/api/metrics/live'\n\n\
         Closed windows become Parquet in Delta tables under {}/tables. Ctrl-C stops, and the next start goes on.\n",
        common.data
    )
}

/// By the name that was given, with the port that was found where any would do.
fn as_given(given: &str, bound: SocketAddr) -> String {
    given.rsplit_once(':').map_or_else(|| bound.to_string(), |(host, _)| format!("{host}:{}", bound.port()))
}

fn run(common: Common, settings: Settings, scripts: Vec<Script>, is_demo: bool) -> ExitCode {
    let watched = std::io::stderr().is_terminal();
    // The Delta kernel tells every step of reading a log at info.
    // What the store's client asks again within a request is in `system.store`.
    log(if watched {
        "warn"
    } else {
        "info,buoyant_kernel=warn,delta_kernel=warn,deltalake_core=warn,object_store=warn"
    });
    match runtimes(&common).and_then(|(main, queries)| {
        let starting = Starting { common, settings, scripts, queries: queries.handle().clone() };
        let outcome = main.block_on(serve_until_stopped(starting, is_demo, watched));
        // A query may sit in a long computation, and a CREATE STREAM wait for a broker; neither is waited for.
        queries.shutdown_background();
        main.shutdown_background();
        outcome
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    tell(&format!("error: {error:#}"));
    ExitCode::FAILURE
}

/// Prints. Where there is no room for it, or nobody who reads it, the server is none the worse.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// The same on stderr.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

pub fn log(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        // It would say so by a print to the same place, and panic: a log on a full disk is no reason to end.
        .log_internal_errors(false)
        .init();
}

fn runtimes(common: &Common) -> Result<(Runtime, Runtime)> {
    let threads = common.workers().max(2);
    Ok((threads::engine(threads)?, threads::queries(threads)?))
}

/// What a server comes from.
struct Starting {
    common: Common,
    settings: Settings,
    scripts: Vec<Script>,
    queries: tokio::runtime::Handle,
}

async fn serve_until_stopped(starting: Starting, is_demo: bool, watched: bool) -> Result<()> {
    let common = &starting.common;
    let limits = (Limits::default(), thalweg_web::Limits::default());
    let connections = descriptors::raised(limits.0.connections_max, limits.1.connections_max);
    let limits = (
        Limits { connections_max: connections.flight, ..limits.0 },
        thalweg_web::Limits {
            connections_max: connections.http,
            proxies: common.proxy.clone().into(),
            hosts: common.http_host.clone(),
            ..limits.1
        },
    );
    // The address is taken first: a port in use should not cost a claim.
    let listener = TcpListener::bind(&common.flight).await.with_context(|| {
        format!("cannot listen on {}; choose another with --flight HOST:PORT", common.flight)
    })?;
    let web_listener =
        match &common.http {
            Some(address) => Some(TcpListener::bind(address).await.with_context(|| {
                format!("cannot listen on {address}; choose another with --http HOST:PORT")
            })?),
            None => None,
        };
    let stop = stop_signal()?.shared();
    let root = DataRoot::open(&common.data, &Default::default())?.with_failpoints(common.failpoints()?);
    let store = Arc::clone(root.watch());
    let not_yet: Reason = Arc::new(move || not_yet(&store.status()));
    let front = Arc::new({
        let not_yet = Arc::clone(&not_yet);
        Front::new(move || not_yet())
    });
    let web_address = web_listener.as_ref().map(TcpListener::local_addr).transpose()?;
    // It is there from the start, and says that it is no use yet.
    let web = web_listener.map(|listener| {
        let (close, closed) = tokio::sync::oneshot::channel::<()>();
        let closed = async move { _ = closed.await };
        let near = web_address.is_some_and(|address| address.ip().is_loopback());
        let mut limits = limits.1;
        // It may be called as it was told to listen: `--http ourhost:8080`.
        limits.hosts.extend(common.http_name().filter(|_| near));
        (tokio::spawn(thalweg_web::serve(listener, Arc::clone(&front), limits, closed)), close)
    });
    let (engine, database, sinks) = tokio::select! {
        biased;
        () = stop.clone() => bail!("stopped before it had started"),
        started = while_told(&listener, not_yet, start(&starting, root)) => started?,
    };
    let address = listener.local_addr().context("the listener has no address")?;
    tracing::info!(%address, data = common.data, "serving");
    say(&format!("Flight SQL listens on {address}"));
    if let Some(address) = web_address {
        say(&format!("HTTP listens on http://{address}"));
    }
    if is_demo {
        say(&format!("\n{}", greeting(common, address, web_address)));
    }
    database.send_on_what_waits();
    front.open(database.clone());
    // The demo is what greets.
    let trading = is_demo.then(|| tokio::spawn(trade::trade(database.clone())));
    let backend = Arc::new(database);
    let server = tokio::spawn(thalweg_flight_server::serve(listener, backend, limits.0, stop.clone()));
    let reporting = watched.then(|| tokio::spawn(progress::report(engine.clone())));
    let outcome = tokio::select! {
        biased;
        outcome = engine.ended() => outcome.map_err(|error| anyhow!(error)),
        () = stop => {
            front.leave();
            sinks.stop().await;
            trading.iter().for_each(tokio::task::JoinHandle::abort);
            tokio::select! {
                biased;
                outcome = engine.stop() => outcome.map_err(|error| anyhow!(error)),
                // Leaving is as safe as a crash.
                () = stop_signal()? => Err(anyhow!("left at the second signal; {READ_AGAIN}")),
                () = store_keeps_waiting(&engine) => Err(left_without_the_store(&engine)),
            }
        }
    };
    if let Some(reporting) = reporting {
        reporting.abort();
    }
    match &outcome {
        Ok(()) => {
            // The server stops by the same signal, within its grace.
            server.await.context("the server panicked")?.context("the server failed")?;
            // It has told until now that this server leaves.
            if let Some((web, close)) = web {
                drop(close);
                web.await.context("the HTTP server panicked")?;
            }
            tell("\nstopped; what was read is durable");
        }
        Err(_) => server.abort(),
    }
    outcome
}

/// What `starting` comes to. Who calls meanwhile waits for it a moment, and then is told that it has not.
async fn while_told<T>(listener: &TcpListener, not_yet: Reason, starting: impl Future<Output = T>) -> T {
    let (started, mut has_started) = tokio::sync::oneshot::channel::<()>();
    let telling = async {
        if tokio::time::timeout(START_WAITED_FOR, &mut has_started).await.is_err() {
            thalweg_flight_server::not_yet(listener, not_yet, has_started.map(drop)).await;
        }
    };
    let starting = async {
        let outcome = starting.await;
        drop(started);
        outcome
    };
    tokio::join!(starting, telling).0
}

fn not_yet(store: &StoreStatus) -> String {
    let mut told = "the server is still starting".to_owned();
    if let (true, Some(error)) = (store.away, &store.last_error) {
        let since = progress::moment(store.since);
        told += &format!(", and its store is away since {since} UTC. store={:?}: {error}", store.store);
    }
    told
}

/// The engine with all that the files ask for, reading.
async fn start(starting: &Starting, root: DataRoot) -> Result<(Engine, Database, Arc<Sinks>)> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let engine = start_engine(starting, root.clone(), Arc::clone(&clock)).await?;
    let (queries, settings) = (starting.queries.clone(), starting.common.queries.settings());
    let database = Database::new(Arc::new(engine.clone()), Arc::clone(&clock), queries.clone(), settings)?;
    start_readers(starting, &engine, &database).await?;
    let secrets = starting.settings.secrets.clone();
    let world = World {
        root,
        secrets,
        files_roots: starting.settings.files_roots.clone(),
        clock,
        webhooks: starting.common.webhooks.clone(),
        instance: Uuid::new_v4(),
        since: database.epoch(),
        runtime: queries,
    };
    let sinks = Sinks::start(database.clone(), world).await.map_err(|error| anyhow!(error))?;
    for script in &starting.scripts {
        if let Err(error) = run_script(&database, script).await {
            engine.stop().await.ok();
            return Err(error);
        }
    }
    // Only now, so that every view of the files sees its stream from the first record on.
    engine.begin();
    Ok((engine, database, sinks))
}

/// From the signal on: resolves when the store has left something unanswered for most of the time in which an instance
/// is to leave.
async fn store_keeps_waiting(engine: &Engine) {
    tokio::time::sleep(STORE_WAITED_FOR).await;
    while engine.store_wait() < STORE_WAITED_FOR {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn left_without_the_store(engine: &Engine) -> anyhow::Error {
    let store = engine.status().store;
    let reason = store.last_error.filter(|_| store.away).unwrap_or_else(|| "it does not reply".into());
    anyhow!(
        "left without a last checkpoint, for the store is away; {READ_AGAIN}. store={:?}: {reason}",
        store.store
    )
}

async fn start_engine(starting: &Starting, root: DataRoot, clock: Arc<dyn Clock>) -> Result<Engine> {
    let folder = root.folder();
    let spools = starting.common.spools(folder);
    let logs = Logs::below(folder.map(|folder| folder.join(LOGS))).with_spools(spools);
    let spill = starting.common.spill(folder)?;
    let opened = Opened::claim(Settings { logs, spill, ..starting.settings.clone() }, root, clock).await?;
    let (tables, views, kept) = (opened.lookups(), opened.views(), opened.kept());
    let (streams, tables, views) = thalweg_sql::plan::replan(&opened.streams(), &tables, &views, &kept).await;
    Ok(opened.resume(streams, tables, views).await?)
}

async fn run_script(database: &Database, script: &Script) -> Result<()> {
    let session = database.session(Client { user: None, name: Some(script.name.clone()) }).of_start();
    let statements =
        thalweg_sql::parse::statements(&script.text).map_err(|error| anyhow!("{}: {error}", script.name))?;
    for statement in statements {
        let answer = session.carry_out(statement, &[]).await;
        match answer.map_err(|error| anyhow!("{}: {error}", script.name))? {
            thalweg_sql::session::Answer::Done(message) => tracing::info!(script = script.name, message),
            thalweg_sql::session::Answer::Rows(_) => {
                return Err(anyhow!(
                    "{}: a file for serve creates and drops; ask with thalweg sql -f",
                    script.name
                ));
            }
        }
    }
    Ok(())
}

/// Before anything is planned that somebody has written.
async fn start_readers(starting: &Starting, engine: &Engine, database: &Database) -> Result<()> {
    let Some((count, launch)) = starting.common.readers()? else { return Ok(()) };
    match Readers::start(count, launch, Arc::new(engine.clone())).await {
        Ok(readers) => database.run_elsewhere(Arc::new(readers)),
        Err(error) if starting.common.queries.may_do_without_readers() => tracing::warn!(
            %error,
            "queries run beside ingest, for no process can be started here that runs them: a query that asks for too much ends \
             this one (--readers 0 says so without this warning)"
        ),
        Err(error) => {
            return Err(error).context("cannot start a process that runs queries (--readers 0 does without)");
        }
    }
    Ok(())
}

/// Resolves at the first SIGTERM or Ctrl-C.
fn stop_signal() -> Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    Ok(async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    /// The views of `queries/` don't notice which of the two streams they read.
    #[test]
    fn the_demos_stream_has_the_columns_of_queries() {
        let columns = |text: &'static str| {
            let (_, rest) = text.split_once("CREATE STREAM clicks (").expect("a stream");
            rest.split_once(") WITH (").expect("options").0
        };
        assert_eq!(
            columns(include_str!("clicks.sql")),
            columns(include_str!("../../../queries/00_clicks.sql"))
        );
    }
}
