//! A snapshot as lists of numbers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{Epoch, Micros};
use crate::snapshot::Behind;
use crate::status::Failure;
use crate::view::left::Left;

/// What a statement reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    pub views: BTreeMap<String, WantedParts>,
    /// `rejected_records` and `late_rows`.
    pub system: BTreeSet<String>,
    /// Tables that views look up.
    pub lookups: BTreeSet<String>,
    /// Views that are to be planned there, whether anything of them is read or not.
    pub planned: BTreeSet<String>,
}

impl Wanted {
    /// Whether any of it changes with each record.
    pub fn reads_open(&self) -> bool {
        !self.system.is_empty() || self.views.values().any(|parts| parts.open)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WantedParts {
    pub closed: bool,
    pub open: bool,
}

impl WantedParts {
    pub const ALL: WantedParts = WantedParts { closed: true, open: true };
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Told {
    pub epoch: Epoch,
    pub views: BTreeMap<String, ToldTable>,
    pub system: BTreeMap<String, ToldTable>,
    /// All tables that have been read, with the numbers of those that are wanted.
    pub lookups: BTreeMap<String, Option<u64>>,
    pub planned: BTreeSet<Uuid>,
}

impl Told {
    /// Of one view, in a form in which the same is the same.
    pub fn view(&self, name: &str) -> Option<&ToldTable> {
        self.views.get(name).or_else(|| self.system.get(name))
    }

    /// The views whose state is told, which have to be planned for it to be read, and those that are wanted so.
    pub fn to_plan(&self) -> BTreeSet<Uuid> {
        let mut views = self.planned.clone();
        let open = self.views.values().chain(self.system.values()).filter_map(|table| table.open.as_ref());
        open.for_each(|open| open.to_plan(&mut views));
        views
    }

    /// Those of which open rows are told.
    pub fn opened(&self) -> impl Iterator<Item = (&String, &ToldTable)> {
        self.views.iter().chain(&self.system).filter(|(_, table)| table.open.is_some())
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToldTable {
    pub view: Uuid,
    /// `None` if it is not wanted.
    pub(super) open: Option<ToldOpen>,
    pub(super) closed: Option<ToldClosed>,
    pub(super) failure: Option<Failure>,
    pub(super) behind: Option<Behind>,
    pub(super) is_lost: bool,
}

impl ToldTable {
    pub(super) fn is_unwanted(&self) -> bool {
        self.open.is_none() && self.closed.is_none()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ToldClosed {
    pub tail: Vec<(Epoch, u64)>,
    pub files: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum ToldOpen {
    Rows(Vec<u64>),
    Panes(Box<ToldPanes>),
}

impl ToldOpen {
    fn to_plan(&self, views: &mut BTreeSet<Uuid>) {
        let ToldOpen::Panes(panes) = self else { return };
        views.insert(panes.view);
        for input in &panes.inputs {
            if let ToldInput::View(open) = input {
                open.to_plan(views);
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ToldPanes {
    pub view: Uuid,
    /// What the tables hold that its plans look up.
    pub contents: BTreeMap<String, u64>,
    /// In the order in which the view keeps them.
    pub parts: Vec<u64>,
    pub closed_through: Option<Micros>,
    pub born_after: Option<Micros>,
    pub left: Left,
    /// By leg.
    pub inputs: Vec<ToldInput>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum ToldInput {
    Stream { arrived: Vec<(Epoch, u64)>, first: Epoch, last: Epoch },
    View(ToldOpen),
}
