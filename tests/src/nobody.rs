//! A user without any right, as whom a program is run. Needs root, to become that user.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use tempfile::TempDir;

use crate::{process::wrapped, world::binary};

/// Debian's user and group for this.
const NOBODY: u32 = 65_534;

/// A directory that belongs to user nobody, with the agent's program in it.
#[derive(Debug)]
pub struct Nobody {
    dir: TempDir,
    /// The group besides its own.
    group: Option<u32>,
}

impl Nobody {
    /// A user whose only right is what the group of that file may do; none where there is no file.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn with_group_of(file: Option<&Path>) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("dockctl-e2e-nobody-").tempdir()?;
        chown(dir.path(), Some(NOBODY), Some(NOBODY))?;
        // The work tree may be where nobody may not look.
        fs::copy(binary("dockctl-agent")?, dir.path().join("dockctl-agent"))?;
        let group = file.map(fs::metadata).transpose()?.map(|f| f.gid());
        Ok(Self { dir, group })
    }

    /// Where its agent keeps its state.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The agent's command, run as this user with no capability and no way to get one.
    pub fn runs(&self, agent: &Command) -> Command {
        let mut setpriv = Command::new("setpriv");
        let id = NOBODY.to_string();
        setpriv.args(["--reuid", &id, "--regid", &id, "--no-new-privs", "--inh-caps=-all"]);
        match self.group {
            Some(group) => setpriv.args(["--groups", &group.to_string()]),
            None => setpriv.arg("--clear-groups"),
        };
        let mut own = Command::new(self.dir.path().join("dockctl-agent"));
        own.args(agent.get_args());
        for (key, value) in agent.get_envs() {
            match value {
                Some(value) => own.env(key, value),
                None => own.env_remove(key),
            };
        }
        wrapped(setpriv, &own)
    }
}
