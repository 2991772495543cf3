//! The process itself: version, memory, file descriptors, CPU time.

use std::time::Instant;

use skep_base::process::usage;

use super::scrape::Scrape;

pub(super) fn source() -> impl Fn(&mut Scrape<'_>) + Send + Sync + 'static {
    let start = Instant::now();
    move |scrape| {
        scrape.gauges("build_info", "The program's version", "version", [(env!("CARGO_PKG_VERSION"), 1.0)]);
        scrape.gauge("uptime_seconds", "Time since the process started", start.elapsed().as_secs_f64());
        if let Some(bytes) = usage::resident_bytes() {
            scrape.gauge("process_resident_memory_bytes", "Resident memory", bytes);
        }
        if let Some(seconds) = usage::cpu_seconds() {
            scrape.counter("process_cpu_seconds", "CPU time used, user and system", seconds);
        }
        if let Some(descriptors) = usage::open_descriptors() {
            scrape.gauge("process_open_fds", "Open file descriptors", descriptors);
        }
    }
}
