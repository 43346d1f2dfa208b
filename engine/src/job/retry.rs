//! A stream whose source was not to be had is tried again by itself, ever more seldom, until it reads or fails of something
//! that no waiting cures.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::ids::Micros;
use crate::job::coordinator::{Command, Coordinator};
use crate::job::request::Request;
use crate::spec::CatalogChange;
use crate::{Error, ErrorKind};

const FIRST_AFTER: Duration = Duration::from_secs(1);
const AT_MOST_AFTER: Duration = Duration::from_secs(60);

/// Of a stream that has failed, or has just been tried again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tries {
    /// Since it last read.
    count: u32,
    /// Wall time of the next one; `None` while it is under way, and where there will be none.
    pub next: Option<Micros>,
}

impl Tries {
    /// The stream could not be read at this wall time.
    pub fn failed(&mut self, error: &Error, now: Micros) {
        self.next = None;
        if error.kind() == ErrorKind::Unavailable {
            let after = FIRST_AFTER.saturating_mul(1 << self.count.min(10)).min(AT_MOST_AFTER);
            self.next = Some(now.saturating_add(after.as_micros() as Micros));
            self.count += 1;
        }
    }

    fn begin(&mut self, now: Micros) -> bool {
        let due = self.next.is_some_and(|next| next <= now);
        if due {
            self.next = None;
        }
        due
    }
}

impl Coordinator {
    /// Asks the sources of streams whose turn it is; a task of each waits for the answer.
    pub(super) fn try_again(&self) {
        let now = self.clock.wall();
        let mut due = vec![];
        for (name, stream) in &mut self.shared.lock().streams {
            // Its workers must have left.
            let idle = self.streams.get(name).is_some_and(|job| job.workers == 0);
            if stream.failure.is_some() && idle && stream.tries.begin(now) {
                due.push(name.clone());
            }
        }
        for name in due {
            let Some(commands) = self.own_commands.upgrade() else { return };
            tokio::spawn(again(name, self.again(), commands));
        }
    }
}

/// What a task needs of the coordinator.
pub(super) struct Again {
    pub shared: std::sync::Arc<crate::job::shared::Shared>,
    pub settings: crate::job::Settings,
    pub clock: std::sync::Arc<dyn crate::clock::Clock>,
}

async fn again(name: String, its: Again, commands: mpsc::Sender<Command>) {
    let change = CatalogChange::RestartStream { name: name.clone(), at: None };
    let error = match Request::of(change, &its.shared, &its.settings, its.clock.wall()).await {
        Ok(request) => {
            let (reply, answer) = oneshot::channel();
            // It may have been dropped, or have gone on, meanwhile.
            let _ = commands.send(Command::Apply(request, reply)).await;
            drop(commands);
            match answer.await {
                Ok(Err(error)) => error,
                Ok(Ok(_)) | Err(_) => return,
            }
        }
        Err(error) => error,
    };
    if let Some(stream) = its.shared.lock().streams.get_mut(&name) {
        stream.failed_again(&error, its.clock.wall());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unavailable_is_tried_ever_more_seldom_and_nothing_else_is() {
        let mut tries = Tries::default();
        let away = Error::Unavailable("away".into());
        let seconds: Vec<Micros> = (0..9)
            .map(|_| {
                tries.failed(&away, 0);
                tries.next.expect("it is tried again") / 1_000_000
            })
            .collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(!tries.begin(59_999_999) && tries.begin(60_000_000), "when it is time");
        assert!(!tries.begin(60_000_000), "once");
        tries.failed(&Error::BadData("lost".into()), 0);
        assert_eq!(tries.next, None);
    }
}
