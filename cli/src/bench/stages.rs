//! Where the time went: of the workers by stage, and of the whole process by kind of thread.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use thalweg_engine::status::Status;

/// The CPU time of the threads there are now; those of the workers end with the engine, so this is asked before.
pub struct Threads(BTreeMap<&'static str, Duration>);

impl Threads {
    pub fn now() -> Result<Threads> {
        let mut kinds = BTreeMap::new();
        // SAFETY: sysconf takes no pointer.
        let tick = Duration::from_secs(1) / unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u32;
        for task in std::fs::read_dir("/proc/self/task")? {
            // A thread may end between its listing and our look at it.
            let Ok(stat) = std::fs::read_to_string(task?.path().join("stat")) else { continue };
            if let Some((name, ticks)) = name_and_ticks(&stat) {
                *kinds.entry(kind(name)).or_default() += tick * ticks;
            }
        }
        Ok(Threads(kinds))
    }

    pub fn since(&self, before: &Threads) -> String {
        let spent = |(kind, time): (&&'static str, &Duration)| {
            let time = time.saturating_sub(before.0.get(kind).copied().unwrap_or_default());
            format!("{kind} {:.2} s", time.as_secs_f64())
        };
        self.0.iter().map(spent).collect::<Vec<_>>().join(", ")
    }
}

/// Of a line of `/proc/PID/task/TID/stat`. The name is in parentheses and may hold anything, those too.
fn name_and_ticks(stat: &str) -> Option<(&str, u32)> {
    let (name, fields) = (stat.find('(')? + 1, stat.rfind(')')?);
    let times = stat[fields..].split_ascii_whitespace().skip(12).take(2);
    let ticks = times.map(|ticks| ticks.parse::<u32>().ok()).sum::<Option<u32>>()?;
    Some((&stat[name..fields], ticks))
}

fn kind(thread: &str) -> &'static str {
    if thread.starts_with("clicks-") {
        "workers"
    } else if thread.starts_with("rdk:") {
        "librdkafka"
    } else {
        "commits, Parquet and the rest"
    }
}

/// Of each worker's time, in shares of the time that all of them had.
pub fn of_workers(status: &Status, workers: usize, wall: Duration) -> String {
    let all = wall.as_secs_f64() * workers as f64;
    let share = |time: Duration| time.as_secs_f64() / all * 100.0;
    let Some(effort) = status.streams.first().map(|stream| stream.effort) else { return String::new() };
    let known = effort.reading + effort.decoding + effort.aggregating;
    format!(
        "reading {:.0} %, decoding {:.0} %, lower halves {:.0} %, the rest {:.0} %",
        share(effort.reading),
        share(effort.decoding),
        share(effort.aggregating),
        (100.0 - share(known)).max(0.0)
    )
}

pub fn of_commits(status: &Status) -> String {
    let commits = status.checkpoints.iter().filter(|checkpoint| checkpoint.records > 0);
    let (count, micros) =
        commits.fold((0, 0), |(count, micros), commit| (count + 1, micros + commit.duration_micros));
    let slowest = status.checkpoints.iter().map(|checkpoint| checkpoint.duration_micros).max().unwrap_or(0);
    format!(
        "{count} commits that had records, {:.0} ms each, the slowest {:.0} ms",
        micros as f64 / 1000.0 / f64::from(count.max(1)),
        slowest as f64 / 1000.0
    )
}

/// What the views keep.
pub fn of_views(status: &Status) -> String {
    let view = |view: &thalweg_engine::status::ViewStatus| {
        let bytes = view.state_bytes as f64 / view.state_rows.max(1) as f64;
        format!("{} {} rows of {bytes:.0} bytes", view.view, view.state_rows)
    };
    status.views.iter().map(view).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_have_any_name() {
        let stat = "17 (rdk:b (1)) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
        assert_eq!(name_and_ticks(stat), Some(("rdk:b (1)", 300)));
    }
}
