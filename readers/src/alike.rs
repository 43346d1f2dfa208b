//! Who asks the same over the same snapshot is told the same: of statements that are alike in every byte one is run, and the
//! others hear its answer. A hundred dashboards over one view cost what one does. It began after all of them had come, so it is
//! their `now()` too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::message::Reply;

/// Larger answers are for who asked alone: whoever hears one has it whole before its first row.
const BYTES_MAX: usize = 256 << 10;
/// The answer of a client that does not ask on is waited for no longer.
const IDLE_MAX: Duration = Duration::from_millis(250);

pub type Said = (Reply, Vec<Bytes>);

/// The answers over one snapshot, by what was asked.
#[derive(Default)]
pub struct Answers(Mutex<BTreeMap<Vec<u8>, watch::Receiver<Progress>>>);

enum Progress {
    /// Whether the client is waiting for more of it.
    Going {
        is_asked: bool,
    },
    Whole(Arc<[Said]>),
    TooMuch,
}

/// What is to be done with a question.
pub enum Part {
    Ask(Teller),
    Hear(Hearer),
}

/// Notes what its client is told, for those who hear it too.
pub struct Teller {
    said: Vec<Said>,
    bytes: usize,
    progress: watch::Sender<Progress>,
}

pub struct Hearer(watch::Receiver<Progress>);

impl Answers {
    pub fn part(&self, question: &[u8]) -> Part {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = answers.get(question) {
            return Part::Hear(Hearer(answer.clone()));
        }
        let (progress, heard) = watch::channel(Progress::Going { is_asked: true });
        answers.insert(question.to_vec(), heard);
        Part::Ask(Teller { said: vec![], bytes: 0, progress })
    }
}

impl Teller {
    pub fn is_asked(&self, is_asked: bool) {
        self.progress.send_if_modified(|progress| match progress {
            Progress::Going { is_asked: known } => std::mem::replace(known, is_asked) != is_asked,
            Progress::Whole(_) | Progress::TooMuch => false,
        });
    }

    /// One reply after the other. Of an answer that fails nobody hears.
    pub fn says(&mut self, reply: &Reply, bodies: &[Bytes]) {
        if !matches!(*self.progress.borrow(), Progress::Going { .. }) {
            return;
        }
        self.bytes += bodies.iter().map(Bytes::len).sum::<usize>();
        if self.bytes > BYTES_MAX {
            self.said.clear();
            self.progress.send_replace(Progress::TooMuch);
            return;
        }
        self.said.push((reply.clone(), bodies.to_vec()));
        if matches!(reply, Reply::End) {
            self.progress.send_replace(Progress::Whole(std::mem::take(&mut self.said).into()));
        }
    }
}

impl Hearer {
    /// The whole answer; `None` says to ask for oneself.
    pub async fn whole(mut self) -> Option<Arc<[Said]>> {
        loop {
            let is_asked = match &*self.0.borrow_and_update() {
                Progress::Whole(said) => return Some(Arc::clone(said)),
                Progress::TooMuch => return None,
                Progress::Going { is_asked } => *is_asked,
            };
            let changed = self.0.changed();
            let changed = match is_asked {
                true => changed.await,
                false => tokio::time::timeout(IDLE_MAX, changed).await.ok()?,
            };
            changed.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn teller(answers: &Answers, question: &[u8]) -> Teller {
        match answers.part(question) {
            Part::Ask(teller) => teller,
            Part::Hear(_) => panic!("nobody has asked that"),
        }
    }

    fn hearer(answers: &Answers, question: &[u8]) -> Hearer {
        match answers.part(question) {
            Part::Hear(hearer) => hearer,
            Part::Ask(_) => panic!("somebody asks that"),
        }
    }

    #[tokio::test]
    async fn one_asks_and_others_hear_it() {
        let answers = Answers::default();
        let mut asks = teller(&answers, b"a");
        let (first, second) = (hearer(&answers, b"a"), hearer(&answers, b"a"));
        let heard = tokio::spawn(first.whole());
        teller(&answers, b"b");
        asks.says(&Reply::Rows(1), &[Bytes::from_static(b"row")]);
        asks.says(&Reply::End, &[]);
        drop(asks);
        for heard in [heard.await.unwrap(), second.whole().await, hearer(&answers, b"a").whole().await] {
            let said = heard.unwrap();
            assert!(matches!(&said[..], [(Reply::Rows(1), row), (Reply::End, _)] if row[0] == "row"));
        }
    }

    #[tokio::test]
    async fn what_is_large_fails_or_stands_still_is_not_waited_for() {
        let answers = Answers::default();
        let mut large = teller(&answers, b"large");
        large.says(&Reply::Rows(1), &[vec![0; BYTES_MAX + 1].into()]);
        assert!(hearer(&answers, b"large").whole().await.is_none());
        large.says(&Reply::End, &[]);
        assert!(hearer(&answers, b"large").whole().await.is_none());

        let mut broken = teller(&answers, b"broken");
        broken.says(&Reply::Rows(1), &[]);
        let heard = tokio::spawn(hearer(&answers, b"broken").whole());
        drop(broken);
        assert!(heard.await.unwrap().is_none());

        let slow = teller(&answers, b"slow");
        slow.is_asked(false);
        assert!(hearer(&answers, b"slow").whole().await.is_none());
    }
}
