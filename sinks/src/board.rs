//! What others see of a sink: how it gets on, and what was refused of it for good.

use std::sync::{Mutex, MutexGuard, PoisonError};

use thalweg_engine::ids::Epoch;
use thalweg_sql::session::{DeadLetter, Sink, SinkState, SinkStatus};

pub struct Board(Mutex<(SinkStatus, Vec<DeadLetter>)>);

impl Board {
    pub fn new(sink: &Sink, confirmed: Epoch, dead: Vec<DeadLetter>) -> Board {
        let status = SinkStatus {
            sink: sink.name.clone(),
            view: sink.view(),
            into: sink.into_text(),
            target: sink.target(),
            state: SinkState::Starting,
            confirmed,
            epoch: confirmed,
            rows: 0,
            deliveries: 0,
            retries: 0,
            dead_letters: 0,
            last_error: None,
            last_error_at: None,
        };
        Board(Mutex::new((status, dead)))
    }

    pub fn status(&self) -> SinkStatus {
        let board = self.lock();
        SinkStatus { dead_letters: board.1.len() as u64, ..board.0.clone() }
    }

    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.lock().1.clone()
    }

    pub fn lock(&self) -> MutexGuard<'_, (SinkStatus, Vec<DeadLetter>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
