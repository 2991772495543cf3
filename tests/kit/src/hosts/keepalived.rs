//! keepalived on a host, as Debian ships it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::lan::Lan;
use super::program::Program;
use crate::folders::scratch;

/// What is put in its configuration.
pub struct Keepalived<'a> {
    pub lan: &'a Lan,
    pub at: usize,
    pub vips: &'a [&'a str],
    pub priority: u8,
    /// In seconds.
    pub interval: &'a str,
    /// More lines of the instance.
    pub more: &'a str,
    /// Lines before the instance.
    pub before: &'a str,
}

/// A running keepalived.
pub struct Running {
    pub program: Program,
    children: Vec<String>,
    folder: PathBuf,
}

impl Keepalived<'_> {
    pub fn start(&self) -> Running {
        let namespace = self.lan.host(self.at);
        let folder = scratch().join(format!("{namespace}-keepalived"));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let config = format!(
            "global_defs {{\n vrrp_version 3\n script_user root\n enable_script_security\n}}\n{}\n\
             vrrp_instance VI_1 {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n priority {}\n\
             advert_int {}\n {}\n virtual_ipaddress {{\n {}\n }}\n}}\n",
            self.before,
            self.priority,
            self.interval,
            self.more,
            self.vips.join("\n "),
        );
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        std::fs::write(path("conf"), config).expect("the configuration can be written");
        let (conf, pid, vrrp) = (path("conf"), path("pid"), path("vrrp.pid"));
        let args = ["--vrrp", "-n", "-l", "-D", "-f", &conf, "-p", &pid, "-r", &vrrp];
        let program = Program::start(&namespace, Path::new("/usr/sbin/keepalived"), &args, &[]);
        Running { program, children: Vec::new(), folder }
    }
}

impl Running {
    /// `kill -9` of all its processes at once: the parent would start the child again.
    pub fn kill(&mut self) {
        self.children = children(self.program.pid().as_raw_nonzero().get());
        let parent = self.program.pid().as_raw_nonzero().to_string();
        let mut pids = vec!["-9".to_owned(), parent];
        pids.extend(self.children.iter().cloned());
        // One that has gone already is no news.
        let _ = Command::new("kill").args(&pids).stderr(Stdio::null()).status();
        self.program.kill();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn children(pid: i32) -> Vec<String> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    std::fs::read_to_string(path).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}
