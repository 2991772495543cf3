//! The process itself: version, memory, file descriptors, CPU time.

use std::fmt::Error;
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use skep_base::process::usage;

/// Reads what the kernel knows of this process.
#[derive(Debug)]
pub struct Process {
    version: &'static str,
    started: Instant,
}

impl Process {
    /// Of a program of this version, which starts now.
    pub fn new(version: &'static str) -> Self {
        Self { version, started: Instant::now() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let version = [("version", self.version)];
        encoder
            .encode_descriptor("build_info", "The program's version", None, MetricType::Gauge)?
            .encode_family(&version)?
            .encode_gauge(&1.0)?;
        let gauges = [
            ("uptime_seconds", "Time since the process started", Some(self.started.elapsed().as_secs_f64())),
            ("process_resident_memory_bytes", "Resident memory", usage::resident_bytes()),
            ("process_open_fds", "Open file descriptors", usage::open_descriptors()),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        if let Some(seconds) = usage::cpu_seconds() {
            let help = "CPU time used, user and system";
            encoder
                .encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, f64, f64>(&seconds, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn version_memory_descriptors_and_time_are_told() {
        let mut registry = Registry::with_prefix("p");
        registry.register_collector(Box::new(Process::new("1.2.3")));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for start in [
            "p_build_info{version=\"1.2.3\"} 1.0",
            "p_uptime_seconds ",
            "p_process_resident_memory_bytes ",
            "p_process_open_fds ",
            "p_process_cpu_seconds_total ",
        ] {
            assert!(text.lines().any(|line| line.starts_with(start)), "{start} is not in:\n{text}");
        }
    }
}
