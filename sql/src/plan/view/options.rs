//! What `WITH (…)` says of a view.

use thalweg_engine::ids::{LENGTH_MAX, Micros};
use thalweg_engine::spec::{Ever, Input, Leg, Session, Unit, ViewShape};

use crate::error::{Error, Position, Result};
use crate::parse::CreateView;
use crate::plan::values::{self, Options};

const OPTIONS: [&str; 5] = ["allowed_lateness", "keep", "retention", "session_max", "snapshot"];
/// Of what is done again and again.
const LENGTH_MIN: Micros = 1_000_000;

/// Rows leave the lake by dates.
const RETENTION_MIN: Micros = 24 * 3600 * 1_000_000;

/// The longest session where nothing is said, or so many gaps where those are more.
const SESSION: Micros = 24 * 3600 * 1_000_000;
const GAPS_OF_SESSION: Micros = 24;

pub(super) struct ViewOptions<'a> {
    create: &'a CreateView,
    pub allowed_lateness: Option<Micros>,
    keep: Option<Micros>,
    pub retention: Option<Micros>,
    session_max: Option<Micros>,
    snapshot: Option<Micros>,
}

impl ViewOptions<'_> {
    pub fn of(create: &CreateView) -> Result<ViewOptions<'_>> {
        let mut given = Options::new(&create.options);
        given.refuse_unknown(&OPTIONS)?;
        Ok(ViewOptions {
            create,
            allowed_lateness: given.parsed("allowed_lateness", length)?,
            keep: given.parsed("keep", length_of_seconds)?,
            retention: given.parsed("retention", length_of_days)?,
            session_max: given.parsed("session_max", length)?,
            snapshot: given.parsed("snapshot", length_of_seconds)?,
        })
    }

    pub fn ever(&self) -> Ever {
        Ever { keep: self.keep, snapshot: self.snapshot }
    }

    pub fn session(&self, gap: Micros) -> Result<Session> {
        let longest = self.session_max.unwrap_or(SESSION.max(gap.saturating_mul(GAPS_OF_SESSION)));
        if longest < 2 * gap {
            return Err(Error::invalid("the longest session is shorter than two of its gaps")
                .at(self.place("session_max"))
                .hint("take a longer session_max, or a shorter gap"));
        }
        Ok(Session { gap, longest })
    }

    fn place(&self, key: &str) -> Option<Position> {
        self.create.options.iter().find(|entry| entry.key.eq_ignore_ascii_case(key))?.position
    }

    /// Refuses those that mean nothing to such a view.
    pub fn suit(&self, shape: &ViewShape, legs: &[Leg]) -> Result<()> {
        let unit = match shape {
            ViewShape::Units { unit, .. } => Some(unit),
            ViewShape::Copy { .. } => None,
        };
        let is_ever = matches!(unit, Some(Unit::Ever(_)));
        if self.keep.is_some() && !is_ever {
            return Err(Error::invalid("only groups without a window can grow old")
                .at(self.place("keep"))
                .hint("leave out keep: what closes leaves the state by itself, and lies in the lake"));
        }
        if self.snapshot.is_some() && !is_ever {
            return Err(Error::invalid("the lake has the rows of this view as they become final")
                .at(self.place("snapshot"))
                .hint("leave out snapshot: it is for aggregates without a window, which are never final"));
        }
        if self.retention.is_some() && is_ever {
            return Err(Error::invalid(
                "nothing of this view is final, so nothing of it grows old in the lake",
            )
            .at(self.place("retention"))
            .hint("write keep for groups that have had no row for so long"));
        }
        if self.session_max.is_some() && !matches!(unit, Some(Unit::Session(_))) {
            return Err(Error::invalid("this view has no sessions")
                .at(self.place("session_max"))
                .hint("leave out session_max"));
        }
        if self.allowed_lateness.is_none() {
            return Ok(());
        }
        // Rows of views come in the order in which they close, and copies wait for nothing.
        let windowed = unit.is_some() && !is_ever;
        let of_stream = legs.iter().any(|leg| matches!(leg.input, Input::Stream(_)));
        let text = match windowed {
            true if of_stream => return Ok(()),
            true => "nothing is late for a view that reads views alone",
            false if self.keep.is_some() => "keep says what is late for a view without a window",
            false => "nothing is late for a view without a window",
        };
        Err(Error::invalid(text).at(self.place("allowed_lateness")).hint("leave out allowed_lateness"))
    }
}

fn length(text: &str) -> Result<Micros, String> {
    let length = values::duration(text)?.as_micros();
    let within = Micros::try_from(length).ok().filter(|micros| *micros <= LENGTH_MAX);
    within.ok_or_else(|| "it is a hundred years at most".to_owned())
}

fn length_of_days(text: &str) -> Result<Micros, String> {
    let enough = |length: &Micros| *length >= RETENTION_MIN;
    Some(length(text)?).filter(enough).ok_or_else(|| "it is a day at least".to_owned())
}

fn length_of_seconds(text: &str) -> Result<Micros, String> {
    let enough = |length: &Micros| *length >= LENGTH_MIN;
    Some(length(text)?).filter(enough).ok_or_else(|| "it is a second at least".to_owned())
}
