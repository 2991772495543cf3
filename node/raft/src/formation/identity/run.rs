//! The numbers of a node's runs: what peers tell an earlier run's words from a later one's by.
//!
//! They are of the clock, so that they are new also where a folder came from the version before, and never
//! fall back with it: peers believe of a node no run before the latest that proved itself. No tasks; blocks
//! on the disk.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use super::DataFolder;

/// The file with the number of the latest run.
const RUN_FILE: &str = "run";

/// Further ahead of the clock than this no run is: a hundred years.
const AHEAD_MS_MAX: u64 = 100 * 365 * 24 * 3600 * 1000;

/// Most bytes that it is read to.
const RUN_BYTES_MAX: u64 = 32;

impl DataFolder {
    /// The number of the run that begins now, by the clock where that does not fall back. Where it cannot be read
    /// or written the node goes on: a run with a lower number is believed where it speaks itself.
    pub fn begin_run(&self, clock: u64) -> u64 {
        let path = self.dir().join(RUN_FILE);
        let before = match read(&path, clock.saturating_add(AHEAD_MS_MAX)) {
            Ok(before) => before,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the number of the run before cannot be read");
                0
            }
        };
        let run = clock.max(before.saturating_add(1));
        if let Err(error) = write(self.dir(), &path, run) {
            tracing::warn!(path = %path.display(), %error, "the number of this run cannot be written");
        }
        run
    }
}

fn read(path: &Path, most: u64) -> io::Result<u64> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => io::Read::read_to_string(&mut io::Read::take(file, RUN_BYTES_MAX), &mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let run = text.trim().parse::<u64>().map_err(io::Error::other)?;
    // Two runs would have the last number.
    if run > most { Err(io::Error::other("it is beyond any clock")) } else { Ok(run) }
}

fn write(dir: &Path, path: &Path, run: u64) -> io::Result<()> {
    let temporary = dir.join(format!("{RUN_FILE}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(format!("{run}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_a_higher_number_also_where_the_clock_falls_back() {
        let dir = tempfile::tempdir().unwrap();
        let run = |clock| DataFolder::open(dir.path()).unwrap().begin_run(clock);
        assert_eq!([100, 50, 100, 500].map(run), [100, 101, 102, 500]);
        fs::write(dir.path().join(RUN_FILE), "no number").unwrap();
        assert_eq!([100, 100].map(run), [100, 101]);
        for beyond in [u64::MAX, AHEAD_MS_MAX + 8] {
            fs::write(dir.path().join(RUN_FILE), beyond.to_string()).unwrap();
            assert_eq!([7, 7].map(run), [7, 8]);
        }
        fs::write(dir.path().join(RUN_FILE), AHEAD_MS_MAX.to_string()).unwrap();
        assert_eq!(run(7), AHEAD_MS_MAX + 1);
    }
}
