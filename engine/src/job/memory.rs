//! Who gives way when ingest has used up its memory: the view that needs most of it, alone.

use std::sync::Arc;

use crate::ids::Micros;
use crate::job::shared::{Shared, Table, Tables};
use crate::memory::{Memory, Pool, Purpose, mebibytes};
use crate::view::Room;

impl Shared {
    /// For the plans that close a view. What they need beyond what is left is had from the view that needs most.
    pub fn room(self: &Arc<Shared>, view: &str, now: Micros) -> Room {
        let (shared, view) = (Arc::clone(self), view.to_owned());
        let judge = move |needs: usize| shared.lock().make_room(&view, needs, now);
        Room::of(Arc::new(Pool::new(self.memory(), judge)), self.memory().shares().piece)
    }
}

impl Tables {
    /// INV-23: has the view fail that needs most, if more is used than there is.
    pub fn give_way(&mut self, now: Micros) {
        if self.memory().is_used_up()
            && let Some(most) = self.neediest(None)
        {
            self.fail(&most.view, most.reason(self.memory()), now);
        }
    }

    /// The plans of a view need so much, which is more than is left. If that is the view that needs most, the error is why it
    /// fails.
    fn make_room(&mut self, view: &str, plans: usize, now: Micros) -> Result<(), String> {
        if let Some(failure) = self.tables.get(view).and_then(|table| table.failure.as_ref()) {
            return Err(failure.reason.clone());
        }
        match self.neediest(Some((view, plans))) {
            Some(most) if most.view == view => Err(most.reason(self.memory())),
            Some(most) => {
                self.fail(&most.view, most.reason(self.memory()), now);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn neediest(&self, closing: Option<(&str, usize)>) -> Option<Needs> {
        let running = self.tables.values().filter(|table| table.failure.is_none() && !table.spec.is_system());
        let needs = |table: &Table| {
            let plans = closing.filter(|(view, _)| *view == table.spec.name).map_or(0, |(_, plans)| plans);
            Needs { view: table.spec.name.clone(), open: table.panes.bytes(), plans }
        };
        running.map(needs).max_by_key(Needs::all).filter(|most| most.all() > 0)
    }

    /// Says when it begins that reading is slowed, and when it has ended.
    pub(super) fn tell_scarcity(&mut self) {
        let scarce = self.memory().is_scarce();
        if std::mem::replace(&mut self.scarce, scarce) != scarce {
            match scarce {
                true => tracing::warn!(
                    told = self.memory().told(),
                    "memory is scarce: streams are read slowly until windows have closed"
                ),
                false => tracing::info!(used = self.memory().used(), "there is memory again"),
            }
        }
    }

    /// After tables have changed what they keep.
    pub(super) fn count_memory(&self, open: usize) {
        let tails = self.tables.values().map(|table| table.tail.bytes()).sum();
        self.memory().set(Purpose::Open, open);
        self.memory().set(Purpose::Tails, tails);
    }
}

/// How a reason begins.
pub(super) const USED_UP: &str = "ingest has used up its memory";

struct Needs {
    view: String,
    open: usize,
    plans: usize,
}

impl Needs {
    fn all(&self) -> usize {
        self.open + self.plans
    }

    fn reason(&self, memory: &Memory) -> String {
        format!(
            "{USED_UP}, and this view needs most of it. needs={} (open={}, to merge or close={}), {}; group by \
             fewer keys, make its windows shorter, or raise --memory",
            mebibytes(self.all()),
            mebibytes(self.open),
            mebibytes(self.plans),
            memory.told()
        )
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch};

    use super::*;
    use crate::ids::Epoch;
    use crate::job::tests::table;
    use crate::view::part::Part;

    fn open(rows: i64) -> Arc<Vec<Part>> {
        let numbers = Int64Array::from_iter_values(0..rows);
        let batch = RecordBatch::try_from_iter([("n", Arc::new(numbers) as _)]).unwrap();
        Arc::new(vec![Part::of_one_pane(0, 0, batch)])
    }

    fn failed(tables: &Tables) -> Vec<&str> {
        let failed = tables.tables.values().filter(|table| table.failure.is_some());
        failed.map(|table| table.spec.name.as_str()).collect()
    }

    #[tokio::test]
    async fn the_view_that_needs_most_gives_way() {
        let shared = Arc::new(Shared::new(Memory::new(200_000)));
        let views =
            [(table("large").await, 10_000), (table("small").await, 1_000), (table("smaller").await, 500)];
        let mut tables = shared.lock();
        for (table, rows) in views {
            let name = table.spec.name.clone();
            tables.tables.insert(name.clone(), table);
            tables.file(&name, Epoch(1), open(rows));
        }
        tables.give_way(0);
        assert_eq!(failed(&tables), [""; 0], "there is enough");
        // A plan of the small one needs more than the large one has.
        let told = tables.make_room("small", 150_000, 0).unwrap_err();
        assert!(told.contains("needs=0.2 MiB") && told.contains("memory=0.2 MiB"), "{told}");
        assert_eq!(failed(&tables), [""; 0], "whoever runs the plan has it fail");
        tables.make_room("smaller", 50_000, 0).unwrap();
        assert_eq!(failed(&tables), ["large"]);
        let open: usize = tables.tables.values().map(|table| table.panes.bytes()).sum();
        assert!(shared.memory().held(Purpose::Open) == open && open < 20_000, "{open}");
        assert!(tables.make_room("large", 1, 0).is_err(), "what has failed gets no more");
        shared.memory().set(Purpose::Queues, 200_000);
        tables.give_way(0);
        assert_eq!(failed(&tables), ["large"], "what is fetched ahead is no reason");
        shared.memory().set(Purpose::Tables, 200_000);
        tables.give_way(0);
        assert_eq!(failed(&tables), ["large", "small"]);
    }
}
