//! Disks that are full or fail. Needs root, and strace.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};

use crate::{
    process::{Process, wrapped},
    world::World,
};

/// A small file system in memory. Unmounted when dropped.
#[derive(Debug)]
pub struct FullDisk {
    mounted: PathBuf,
    data: PathBuf,
}

impl World {
    /// A file system of that many MiB, with an empty directory for a daemon's data.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn small_disk(&self, mebibytes: u32) -> Result<FullDisk> {
        let mounted = self.dir("disk")?;
        let size = format!("size={mebibytes}m,mode=0700");
        let mut mount = Command::new("mount");
        let status = mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&mounted).status()?;
        ensure!(status.success(), "{mount:?} failed");
        let disk = FullDisk { data: mounted.join("data"), mounted };
        fs::create_dir(&disk.data)?;
        Ok(disk)
    }
}

impl FullDisk {
    /// The daemon's directory on it.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// Takes the last byte of it.
    ///
    /// # Errors
    /// When something else than the lack of space ends that.
    pub fn fill(&self) -> Result<()> {
        let mut ballast = File::create(self.ballast())?;
        loop {
            match ballast.write_all(&[0; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives back what [`FullDisk::fill`] took.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.mounted.join("ballast")
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        // Lazily: a daemon of a scenario that failed may still have it open.
        let _ = Command::new("umount").arg("-l").arg(&self.mounted).status();
    }
}

/// Every way in which data is made durable.
const FLUSHES: &str = "fsync,fdatasync,sync_file_range,msync";

fn strace(when: &str) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-e", &format!("trace={FLUSHES}")]);
    strace.args(["-e", &format!("inject={FLUSHES}:error=EIO{when}")]);
    strace
}

/// A disk that fails each flush of one running process with EIO. Mended when dropped.
#[derive(Debug)]
pub struct FailingDisk {
    _strace: Process,
}

impl World {
    /// Fails the flushes of a process from now on.
    ///
    /// # Errors
    /// When strace does not get hold of it.
    pub async fn failing_disk(&self, process: &Process) -> Result<FailingDisk> {
        let mut strace = strace("");
        strace.args(["-p", &process.pid().to_string()]);
        let strace = Process::spawn("strace", strace, self.logs())?;
        strace.wait_for_log("attached").await?;
        Ok(FailingDisk { _strace: strace })
    }
}

/// The same command on a disk on which, in each thread, the flush of that number and all later ones
/// fail.
pub fn failing_from(flush: u32, command: &Command) -> Command {
    wrapped(strace(&format!(":when={flush}+")), command)
}
