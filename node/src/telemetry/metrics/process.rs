//! The process itself: version, memory, file descriptors, CPU time.

use std::time::Instant;

use super::scrape::Scrape;

/// Linux counts a process's CPU time in hundredths of a second, whatever the kernel's own tick.
const CLOCK_TICKS_PER_S: f64 = 100.0;

pub(super) fn source() -> impl Fn(&mut Scrape<'_>) + Send + Sync + 'static {
    let start = Instant::now();
    move |scrape| {
        scrape.gauges("build_info", "The program's version", "version", [(env!("CARGO_PKG_VERSION"), 1.0)]);
        scrape.gauge("uptime_seconds", "Time since the process started", start.elapsed().as_secs_f64());
        if let Some(bytes) = resident_bytes() {
            scrape.gauge("process_resident_memory_bytes", "Resident memory", bytes);
        }
        if let Some(seconds) = cpu_seconds() {
            scrape.counter("process_cpu_seconds", "CPU time used, user and system", seconds);
        }
        if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
            scrape.gauge("process_open_fds", "Open file descriptors", descriptors.count() as f64);
        }
    }
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name stands in parentheses and may hold spaces; utime and stime are the
    // 12th and 13th fields after it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / CLOCK_TICKS_PER_S)
}
