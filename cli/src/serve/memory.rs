//! How much memory there is.

use std::path::{Path, PathBuf};

/// What the container may have, or else the machine has. Where neither is told, so much that a bound is none.
pub fn available() -> usize {
    let machine = read("/proc/meminfo").and_then(|text| of_meminfo(&text));
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let limits = limits_of(&groups).into_iter().filter_map(|path| read(path)?.trim().parse().ok());
    limits.chain(machine).min().unwrap_or(usize::MAX)
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Where the limits of this process's control groups are, of both versions: of its own and of those that it is in. Within a
/// container its own group is the root of what it sees.
fn limits_of(groups: &str) -> Vec<PathBuf> {
    let mut limits = vec![];
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, Some(group)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            Some("") => ("/sys/fs/cgroup", "memory.max"),
            Some(of) if of.split(',').any(|of| of == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for group in Path::new(group.trim_start_matches('/')).ancestors() {
            limits.push(Path::new(root).join(group).join(file));
        }
    }
    limits
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

#[test]
fn limits_are_those_of_all_groups_around() {
    let groups = "12:cpu,cpuacct:/a\n4:memory:/docker/abc\n0::/system.slice/thalweg.service\n";
    let expected = [
        "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/system.slice/thalweg.service/memory.max",
        "/sys/fs/cgroup/system.slice/memory.max",
        "/sys/fs/cgroup/memory.max",
    ];
    assert_eq!(limits_of(groups), expected.map(PathBuf::from));
}
