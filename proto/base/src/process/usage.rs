//! What the kernel knows of this process.

use std::fs;

/// Linux counts a process's CPU time in hundredths of a second, whatever the kernel's own tick.
const CLOCK_TICKS_PER_S: f64 = 100.0;

/// Resident memory, in bytes.
pub fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// CPU time used, user and system, in seconds.
pub fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name stands in parentheses and may hold spaces; utime and stime are the
    // 12th and 13th fields after it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / CLOCK_TICKS_PER_S)
}

/// Open file descriptors.
pub fn open_descriptors() -> Option<f64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_runs_has_memory_and_time_and_descriptors() {
        let kept = fs::File::open("/proc/self/status").unwrap();
        let before = open_descriptors().unwrap();
        assert!(before >= 1.0);
        drop(kept);
        assert!(resident_bytes().unwrap() > 100_000.0);
        let used = cpu_seconds().unwrap();
        while cpu_seconds().unwrap() < used + 0.02 {}
    }
}
