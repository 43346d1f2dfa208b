//! A reader: what its process does from its start to its end.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::FromRawFd;
use std::sync::Arc;

use thalweg_engine::checkpoint::DataRoot;
use thalweg_engine::clock::SystemClock;
use thalweg_engine::mirror::Mirror;
use thalweg_sql::session::{Database, Settings};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;

use crate::answer::answer;
use crate::frame::Frame;
use crate::makers::Makers;
use crate::message::Hello;
use crate::mirror::{Listener, Planned, Snapshots};
use crate::process::LISTENER;
use crate::watch;

/// Of a request's values, or of a piece; what is whole in the engine is whole here.
const BODY_BYTES_MAX: u64 = 1 << 40;

/// What a reader is told by its command line.
pub struct Reader {
    /// Where the data lies.
    pub data: String,
    /// Statements are planned and run here.
    pub queries: Handle,
    pub settings: Settings,
    /// The process that it belongs to.
    pub parent: u32,
}

/// Serves until the engine's process is gone.
pub async fn serve(reader: Reader) -> io::Result<()> {
    watch::begin()?;
    first_to_be_killed();
    // SAFETY: whoever started this process has put the listener there, and nobody else takes it.
    let listener = unsafe { std::os::unix::net::UnixListener::from_raw_fd(LISTENER) };
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let root = DataRoot::open(&reader.data, &BTreeMap::new()).map_err(io::Error::other)?;
    let planned = Arc::new(Planned::default());
    let snapshots = Arc::new(Snapshots::default());
    let engine = Arc::clone(&planned) as _;
    let database =
        Database::new(engine, Arc::new(SystemClock::new()), reader.queries.clone(), reader.settings)
            .map_err(io::Error::other)?;
    let makers = Arc::new(Makers::new(Arc::clone(&planned)));
    let mut listening = Some(Listener {
        planned,
        snapshots: Arc::clone(&snapshots),
        mirror: Mirror::new(Arc::clone(root.readers())),
        database: database.clone(),
        last: BTreeMap::new(),
    });
    let (end, mut ended) = tokio::sync::mpsc::channel::<io::Result<()>>(1);
    loop {
        let (mut stream, _) = tokio::select! {
            biased;
            outcome = ended.recv() => return outcome.unwrap_or(Ok(())),
            accepted = listener.accept() => accepted?,
        };
        // Whoever can name the socket is on this machine, and may be anybody.
        if stream.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok()) != Some(reader.parent) {
            continue;
        }
        let frame = match Frame::read(&mut stream, BODY_BYTES_MAX).await {
            Ok(Some(frame)) => frame,
            Ok(None) | Err(_) => continue,
        };
        match frame.message()? {
            Hello::Control => {
                if let Some(listener) = listening.take() {
                    let (end, queries) = (end.clone(), reader.queries.clone());
                    tokio::spawn(async move {
                        let told = queries.spawn(listen(listener, stream)).await;
                        _ = end.send(told.unwrap_or_else(|error| Err(io::Error::other(error)))).await;
                    });
                }
            }
            Hello::Statement(request) => {
                let (database, snapshots) = (database.clone(), Arc::clone(&snapshots));
                let makers = Arc::clone(&makers);
                tokio::spawn(answer(stream, *request, frame.bodies, database, snapshots, makers));
            }
        }
    }
}

/// Until nothing more is told.
async fn listen(mut listener: Listener, stream: UnixStream) -> io::Result<()> {
    let mut stream = tokio::io::BufReader::with_capacity(1 << 20, stream);
    while let Some(frame) = Frame::read(&mut stream, BODY_BYTES_MAX).await? {
        listener.take(&frame).await?;
    }
    Ok(())
}

/// Where memory is short, a reader is what can be done without. Whoever may not say so goes on as it is.
fn first_to_be_killed() {
    _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}
