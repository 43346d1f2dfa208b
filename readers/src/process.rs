//! Starts a reader's process, with what the system is to hold it to, and hears what it says at its end.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use uuid::Uuid;

use crate::watch::LastWords;

/// The descriptor at which a reader finds its listener.
pub const LISTENER: RawFd = 3;

/// How much more a reader gives way than the engine where there is not enough CPU for all: reading on goes before answering.
/// Half of it leaves ingest 0.6 of what it takes in alone while six threads finish much open state, instead of 0.8.
const NICE: libc::c_int = 10;

/// How a reader is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Of the same binary: the hidden command, and what belongs to it.
    pub arguments: Vec<String>,
    /// What it may take of memory that is its own.
    pub memory_bytes: usize,
    /// What its statements may have of that together, with what they read of open windows.
    pub statements_bytes: usize,
    /// Whether somebody waits for it who is not to give way to reading on.
    pub in_haste: bool,
}

/// A process that has been started.
pub struct Process {
    child: Child,
    /// Where it listens, as tokio names what has no place among files.
    pub address: PathBuf,
}

impl Launch {
    /// To be called by a thread that lives as long as its readers: the system ends them with the thread.
    pub fn start(&self) -> io::Result<Process> {
        let name = format!("thalweg-reader-{}", Uuid::new_v4());
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("thalweg").args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        // Who has no memory left has none to find out where it was: it took seconds, and its clients wait for its end.
        command.env("RUST_BACKTRACE", "0");
        let (given, memory) = (listener.as_raw_fd(), self.memory_bytes as libc::rlim_t);
        let nice = if self.in_haste { 0 } else { NICE };
        // SAFETY: between fork and exec nothing but calls of the system is made, with numbers, and a struct of this frame.
        unsafe {
            command.pre_exec(move || hold(given, memory, nice));
        }
        let child = command.spawn()?;
        Ok(Process { child, address: PathBuf::from(format!("\0{name}")) })
    }
}

/// In the child.
fn hold(listener: RawFd, memory: libc::rlim_t, nice: libc::c_int) -> io::Result<()> {
    let done = |result: libc::c_int| match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    };
    let limit = libc::rlimit { rlim_cur: memory, rlim_max: memory };
    let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: numbers, and structs that outlive the calls.
    unsafe {
        done(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        done(libc::setrlimit(libc::RLIMIT_DATA, &raw const limit))?;
        done(libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core))?;
        libc::nice(nice);
        // No socket and no file of the engine's stays open there, whoever opened it how.
        libc::syscall(libc::SYS_close_range, LISTENER, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        match listener == LISTENER {
            true => done(libc::fcntl(LISTENER, libc::F_SETFD, 0)),
            false => done(libc::dup2(listener, LISTENER)),
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone)]
pub struct End {
    pub words: LastWords,
    pub status: String,
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its end, whoever brings it about.
    pub async fn end(mut self) -> End {
        let mut said = [0; 64];
        let mut length = 0;
        if let Some(Ok(mut stdout)) = self.child.stdout.take().map(tokio::process::ChildStdout::from_std) {
            while let Ok(read @ 1..) = stdout.read(&mut said[length..]).await {
                length += read;
            }
        }
        // Its stdout ends with it.
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status.to_string(),
                Ok(None) => tokio::time::sleep(Duration::from_millis(1)).await,
                Err(error) => break error.to_string(),
            }
        };
        End { words: LastWords::of(&said[..length]), status }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            _ = self.child.kill();
            _ = self.child.wait();
        }
    }
}
