//! What scenarios make on an engine besides containers: it carries the scenario's prefix and goes with it.

use std::process::Command;

use crate::{docker::Docker, world::World};

/// Removes an engine's images, volumes and networks of one scenario when it is dropped, and before them
/// the scenario's containers.
#[derive(Debug)]
pub struct Tidy {
    host: String,
    prefix: String,
}

impl World {
    /// A name of the scenario's own, for an image, volume or network; [`Tidy`] knows it.
    pub fn own(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix())
    }

    /// Tidies an engine up at the end of the scenario.
    pub fn tidy(&self, docker: &Docker) -> Tidy {
        Tidy { host: docker.host().to_owned(), prefix: format!("{}-", self.prefix()) }
    }
}

impl Tidy {
    fn docker(&self, arguments: &[&str]) -> String {
        let output = Command::new("docker").args(["-H", &self.host]).args(arguments).output();
        output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
    }

    fn remove(&self, list: &[&str], remove: &[&str]) {
        let listed = self.docker(list);
        let own: Vec<&str> = listed.lines().filter(|line| line.contains(&self.prefix)).collect();
        if !own.is_empty() {
            // What is left over now is removed at the end of `make test`.
            let _ = self.docker(&[remove, &own[..]].concat());
        }
    }
}

impl Drop for Tidy {
    fn drop(&mut self) {
        self.remove(&["ps", "-a", "--format", "{{.Names}}"], &["rm", "-f", "-v"]);
        self.remove(&["network", "ls", "--format", "{{.Name}}"], &["network", "rm"]);
        self.remove(&["volume", "ls", "-q"], &["volume", "rm", "-f"]);
        // Builds leave images without a name; a filter takes only those that have the scenario's label.
        let label = format!("label=dockctl.test={}", self.prefix.trim_end_matches('-'));
        let _ = self.docker(&["image", "prune", "-f", "--filter", &label]);
        self.remove(&["images", "--format", "{{.Repository}}:{{.Tag}}"], &["rmi", "-f"]);
    }
}
