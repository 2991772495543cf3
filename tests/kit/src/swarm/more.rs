//! A stack of more than skep's own services: files beside its own, what they name, and images of what runs beside it.

use std::path::Path;
use std::time::{Duration, Instant};

use super::lab::{HOSTS, Lab};
use super::stack::SERVICES;
use crate::folders::root;
use crate::programs::installed;
use crate::wait::pause;

/// What the Swarm forgets with the stack: secrets and configs that more files name.
const SECRET: &str = "skep_gateway_token";
const CONFIG: &str = "gateway-lab";
/// As long as the slowest service may take to end, and some.
const GONE_PATIENCE: Duration = Duration::from_secs(60);

/// The stack with more files; gone with all that it has kept when this is dropped, for it is not what other tests begin
/// with.
pub struct More<'a>(&'a Lab);

impl Drop for More<'_> {
    fn drop(&mut self) {
        self.0.clear();
    }
}

impl Lab {
    /// The stack anew, with these files beside its own. `document` is the gateway's, as a config.
    pub fn with_more(&self, files: &[&Path], document: Option<&str>, settings: &[(&str, &str)]) -> More<'_> {
        (1..=HOSTS).for_each(|host| self.heal(host));
        self.clear();
        let more = More(self);
        let manager = self.manager();
        let make = |kind: &str, name: &str, text: &str| {
            let file = self.folder().join(name);
            std::fs::write(&file, text).expect("the lab's folder is writable");
            self.must_docker(manager, &[kind, "create", name, file.to_str().expect("text")]);
        };
        make("secret", SECRET, "the-token-of-the-lab-0123456789\n");
        if let Some(document) = document {
            make("config", CONFIG, document);
        }
        let files: Vec<&str> = files.iter().map(|file| file.to_str().expect("text")).collect();
        let files = files.join(" ");
        let ours = [
            ("SKEP_STACK_FILES", &*files),
            ("SKEP_GATEWAY_CONFIG", CONFIG),
            ("SKEP_LEVEL_AFTER", "1s"),
            // More runs on this machine's cores than in other tests, and the address is not what is tested.
            ("SKEP_ADVERT_INTERVAL", "1s"),
        ];
        self.deploy_with(&[&ours, settings].concat());
        more
    }

    /// An image of this machine's Python and curl with these files, on every host; None, and said, where it has none.
    /// `lines` are of a Dockerfile.
    pub fn app_image(&self, test: &str, tag: &str, files: &[&str], lines: &str) -> Option<String> {
        if !installed(test, &["python3", "curl", "ldd"]) {
            return None;
        }
        let name = format!("app:{tag}");
        let folder = self.folder().join(format!("app-{tag}"));
        std::fs::create_dir_all(&folder).expect("the lab's folder is writable");
        for file in files {
            let from = root().join(file);
            let to = folder.join(from.file_name().expect("a file"));
            std::fs::copy(&from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        }
        std::fs::write(folder.join("Dockerfile"), lines).expect("and so is this");
        self.run(&["app", &name, folder.to_str().expect("text")]).unwrap_or_else(|error| panic!("{error}"));
        Some(name)
    }

    /// Whether there are services that are none of skep's own.
    pub(super) fn has_more(&self) -> bool {
        let args = ["stack", "services", "skep", "--format", "{{.Name}}"];
        let names = self.docker(self.manager(), &args).unwrap_or_default();
        names.lines().any(|name| name != "skep_worker" && !SERVICES.contains(&name))
    }

    /// Takes away the stack, what its nodes and balancers have kept, and what more files name, as far as that is there
    /// and goes. It never panics: a test that fails does this, too.
    pub(super) fn clear(&self) {
        let hosts = 1..=HOSTS;
        let manager =
            hosts.clone().find(|host| self.docker(*host, &["node", "ls", "-q"]).is_ok()).unwrap_or(1);
        let _ = self.docker(manager, &["stack", "rm", "skep"]);
        let is_gone = |host| {
            let left = |args: &[&str]| self.docker(host, args).unwrap_or_default();
            left(&["ps", "-q", "-f", "name=skep_"]).trim().is_empty()
                && left(&["network", "ls", "-q", "-f", "name=skep_"]).trim().is_empty()
        };
        let begun = Instant::now();
        while !hosts.clone().all(is_gone) && begun.elapsed() < GONE_PATIENCE {
            pause(Duration::from_millis(200));
        }
        for host in hosts {
            let _ = self.docker(host, &["container", "prune", "-f"]);
            let _ = self.docker(host, &["volume", "rm", "-f", "skep_data", "skep_balancer"]);
        }
        let _ = self.docker(manager, &["secret", "rm", SECRET]);
        let _ = self.docker(manager, &["config", "rm", CONFIG]);
    }
}
