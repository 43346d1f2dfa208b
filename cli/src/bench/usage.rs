//! Wall time, CPU time and memory of this process.

use std::time::{Duration, Instant};

/// A moment, or what was spent between two.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    started: Instant,
    cpu: Duration,
}

#[derive(Debug, Clone, Copy)]
pub struct Spent {
    pub wall: Duration,
    pub cpu: Duration,
}

impl Usage {
    pub fn now() -> Usage {
        Usage { started: Instant::now(), cpu: cpu_time() }
    }

    pub fn until_now(self) -> Spent {
        self.until(Usage::now())
    }

    pub fn until(self, later: Usage) -> Spent {
        let wall = later.started.saturating_duration_since(self.started);
        Spent { wall, cpu: later.cpu.saturating_sub(self.cpu) }
    }

    /// What is resident now.
    pub fn memory_bytes() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_default() * 1024
    }

    pub fn peak_memory_bytes() -> u64 {
        // Linux counts in KiB.
        resource_usage().ru_maxrss as u64 * 1024
    }
}

impl Spent {
    pub fn line(&self, what: &str, events: u64) -> String {
        let per = |time: Duration| (events as f64 / time.as_secs_f64()).round();
        format!(
            "{what}: {events} events in {:.2} s, {} events/s, {} events per CPU-second",
            self.wall.as_secs_f64(),
            per(self.wall),
            per(self.cpu)
        )
    }
}

fn cpu_time() -> Duration {
    let usage = resource_usage();
    let duration = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

fn resource_usage() -> libc::rusage {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage fills the struct it is given, which outlives the call; all zeros is a valid rusage.
    unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    }
}
