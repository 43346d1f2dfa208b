//! How much memory there is.

/// What the container may have, or else the machine has. Where neither is told, so much that a bound is none.
pub fn available() -> usize {
    let machine = read("/proc/meminfo").and_then(|text| of_meminfo(&text));
    let container = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let container = container.into_iter().filter_map(|path| read(path)?.trim().parse().ok());
    container.chain(machine).min().unwrap_or(usize::MAX)
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn of_meminfo(text: &str) -> Option<usize> {
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok().map(|kilobytes| kilobytes << 10)
}

#[test]
fn the_total_of_the_machine_is_read() {
    let text = "MemTotal:       24689764 kB\nMemFree:        21000000 kB\n";
    assert_eq!(of_meminfo(text), Some(24_689_764 << 10));
    assert!(available() > 1 << 20, "this machine has some");
}
