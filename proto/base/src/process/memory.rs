//! How much memory this process may have.

/// By its control group's limit, or by what the machine has.
pub fn limit_bytes() -> u64 {
    group_limit().unwrap_or_else(|| {
        let info = rustix::system::sysinfo();
        (info.totalram as u64).saturating_mul(u64::from(info.mem_unit.max(1)))
    })
}

/// The limit of this process's control group, of either version; none where it has none.
fn group_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of = |line: &str| line.split(':').nth(2).map(str::to_owned);
    let v2 = groups.lines().find(|line| line.starts_with("0::")).and_then(of);
    let v1 = groups.lines().find(|line| line.split(':').nth(1) == Some("memory")).and_then(of);
    let candidates = [
        v2.map(|group| format!("/sys/fs/cgroup{group}/memory.max")),
        // In a container the group's own folder is mounted as the root.
        Some("/sys/fs/cgroup/memory.max".to_owned()),
        v1.map(|group| format!("/sys/fs/cgroup/memory{group}/memory.limit_in_bytes")),
        Some("/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned()),
    ];
    // Version 1 writes a number beyond any memory for no limit.
    let read = |path: String| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    candidates.into_iter().flatten().filter_map(read).filter(|bytes| *bytes < 1 << 50).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_some_memory_and_no_more_than_a_machine_has() {
        let bytes = limit_bytes();
        assert!((1 << 24..1 << 50).contains(&bytes), "{bytes}");
    }
}
