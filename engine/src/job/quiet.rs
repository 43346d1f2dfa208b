//! A partition's silence, as only its worker knows it: since when it has been read to its end, and until when its source
//! has vouched for that.
//!
//! A silence is over with the next record, and forgotten when the source no longer vouches: a broker that cannot be
//! reached may hold records, so what is not heard of it is no silence (INV-11).

use std::time::Duration;

use crate::source::END_IS_TOLD_EVERY;

/// An end that was not told again for so long is not known any more. Longer than a worker's longest micro-batch, or a
/// slow view would keep partitions from becoming idle.
const END_IS_KNOWN_FOR: Duration = END_IS_TOLD_EVERY.saturating_mul(5);

#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet {
    /// At its end and silent.
    silence: Option<Silence>,
    /// At the last barrier, for the declared time.
    idle: bool,
}

#[derive(Debug, Clone, Copy)]
struct Silence {
    since: Duration,
    /// When the source last said so.
    heard: Duration,
    /// The worker has not listened since.
    deaf: bool,
}

/// What a barrier makes of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Records may come, or its source is not heard.
    Active,
    /// Was idle and is no longer known to be silent; as if a record had come, it adopts the frontier.
    Returns,
    /// Silent for the declared time, by the word of its source at this moment.
    Idle { heard: Duration },
    /// At its end, and not for the declared time.
    Silent,
}

impl Quiet {
    /// The source says that the partition has been read to its end.
    pub fn at_end(&mut self, now: Duration) {
        let since = self.silence.map_or(now, |silence| silence.since);
        self.silence = Some(Silence { since, heard: now, deaf: false });
    }

    /// A record came. Says whether the partition returns from idleness.
    pub fn record(&mut self) -> bool {
        self.silence = None;
        std::mem::take(&mut self.idle)
    }

    /// The worker did not listen. That undoes nothing of what is known; but once the last word has grown old, the silence
    /// counts again only with the next.
    pub fn not_listened(&mut self) {
        if let Some(silence) = &mut self.silence {
            silence.deaf = true;
        }
    }

    pub fn barrier(&mut self, now: Duration, idle_after: Duration) -> Verdict {
        let known = |silence: &Silence| now.saturating_sub(silence.heard) <= END_IS_KNOWN_FOR;
        self.silence = self.silence.filter(|silence| known(silence) || silence.deaf);
        let was_idle = self.idle;
        let long = |silence: &Silence| silence.heard.saturating_sub(silence.since) >= idle_after;
        let idle = self.silence.filter(|silence| known(silence) && long(silence));
        self.idle = idle.is_some();
        match (idle, self.silence) {
            (Some(silence), _) => Verdict::Idle { heard: silence.heard },
            (None, _) if was_idle => Verdict::Returns,
            (None, Some(_)) => Verdict::Silent,
            (None, None) => Verdict::Active,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE_AFTER: Duration = Duration::from_secs(10);

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn told(quiet: &mut Quiet, seconds: std::ops::RangeInclusive<u64>) {
        seconds.for_each(|second| quiet.at_end(at(second)));
    }

    #[test]
    fn a_silence_counts_while_it_is_vouched_for() {
        let mut quiet = Quiet::default();
        assert_eq!(quiet.barrier(at(100), IDLE_AFTER), Verdict::Active);
        told(&mut quiet, 100..=109);
        assert_eq!(quiet.barrier(at(111), IDLE_AFTER), Verdict::Silent, "heard for nine seconds");
        quiet.at_end(at(110));
        assert_eq!(quiet.barrier(at(111), IDLE_AFTER), Verdict::Idle { heard: at(110) });
    }

    #[test]
    fn an_end_that_is_not_told_again_is_forgotten() {
        let mut quiet = Quiet::default();
        told(&mut quiet, 0..=3);
        // The source is gone; time passes.
        assert_eq!(quiet.barrier(at(8), IDLE_AFTER), Verdict::Silent);
        assert_eq!(quiet.barrier(at(9), IDLE_AFTER), Verdict::Active);
        // It is back; the silence begins anew.
        told(&mut quiet, 60..=69);
        assert_eq!(quiet.barrier(at(69), IDLE_AFTER), Verdict::Silent);
        quiet.at_end(at(70));
        assert_eq!(quiet.barrier(at(70), IDLE_AFTER), Verdict::Idle { heard: at(70) });
    }

    #[test]
    fn what_was_idle_returns_once() {
        let idle = |quiet: &mut Quiet| {
            told(quiet, 0..=10);
            assert_eq!(quiet.barrier(at(10), IDLE_AFTER), Verdict::Idle { heard: at(10) });
        };
        let mut quiet = Quiet::default();
        idle(&mut quiet);
        assert!(quiet.record(), "with a record");
        assert!(!quiet.record());
        assert_eq!(quiet.barrier(at(11), IDLE_AFTER), Verdict::Active);
        idle(&mut quiet);
        assert_eq!(quiet.barrier(at(30), IDLE_AFTER), Verdict::Returns, "unheard");
        assert_eq!(quiet.barrier(at(31), IDLE_AFTER), Verdict::Active);
        assert!(!quiet.record(), "the frontier was adopted at that barrier");
    }

    #[test]
    fn not_listening_undoes_nothing_that_is_known() {
        let mut quiet = Quiet::default();
        told(&mut quiet, 0..=10);
        quiet.not_listened();
        assert_eq!(quiet.barrier(at(11), IDLE_AFTER), Verdict::Idle { heard: at(10) }, "for a moment");
        assert_eq!(quiet.barrier(at(70), IDLE_AFTER), Verdict::Returns, "for long");
        assert_eq!(quiet.barrier(at(71), IDLE_AFTER), Verdict::Silent);
        quiet.at_end(at(72));
        assert_eq!(quiet.barrier(at(72), IDLE_AFTER), Verdict::Idle { heard: at(72) }, "nothing had come");
        quiet.not_listened();
        assert!(quiet.record());
        assert_eq!(quiet.barrier(at(73), IDLE_AFTER), Verdict::Active, "something had");
    }
}
