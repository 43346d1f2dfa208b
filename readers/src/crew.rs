//! The threads of a room, and how they give way for good.
//!
//! What keeps a thread for long gives way to all others. Nobody may take that back without a privilege, so a crew that
//! has given way is left to what it is at, and ends with its room.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A thirtieth of the share that the engine's threads have, each.
const NICE: libc::c_int = 15;

#[derive(Default)]
pub struct Crew(Mutex<Members>);

#[derive(Default)]
struct Members {
    threads: Vec<libc::pid_t>,
    gives_way: bool,
}

impl Crew {
    /// To be called by each thread as it begins.
    pub fn join(&self) {
        let mut members = self.members();
        // SAFETY: it takes nothing, and never fails.
        let thread = unsafe { libc::gettid() };
        members.threads.push(thread);
        if members.gives_way {
            give_way(thread);
        }
    }

    /// To be called by each thread before it ends: its number may be another's then.
    pub fn leave(&self) {
        // SAFETY: as above.
        let thread = unsafe { libc::gettid() };
        self.members().threads.retain(|it| *it != thread);
    }

    pub(crate) fn give_way(&self) {
        let mut members = self.members();
        if !std::mem::replace(&mut members.gives_way, true) {
            members.threads.iter().copied().for_each(give_way);
        }
    }

    pub(crate) fn has_given_way(&self) -> bool {
        self.members().gives_way
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn give_way(thread: libc::pid_t) {
    let thread = libc::id_t::try_from(thread).unwrap_or_default();
    // To Linux a thread is a process with a number. Whoever may not, goes on as it is.
    // SAFETY: numbers alone.
    _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, thread, NICE) };
}
