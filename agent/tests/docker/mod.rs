//! Containers on a real engine for tests, made with the docker command, so that what is tested is
//! compared with what Docker's own tool says.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{UnixListener, UnixStream},
    task::{AbortHandle, JoinSet},
};

/// A busybox image that every test shares.
pub(crate) const IMAGE: &str = "dockctl-test/busybox:latest";

/// The engine's address.
pub(crate) fn host() -> String {
    let set = |name| std::env::var(name).ok().filter(|host| !host.is_empty());
    set("DOCKCTL_TEST_DOCKER")
        .or_else(|| set("DOCKER_HOST"))
        .unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned())
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.env("DOCKER_HOST", host()).args(args).stdin(Stdio::null());
    command
}

/// Runs the docker command.
pub(crate) fn docker(args: &[&str]) -> Output {
    let output = command(args).output().expect("the docker command is installed");
    assert!(
        output.status.success(),
        "docker {args:?}: {}\n(these tests need a running Docker engine)",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A container, removed when dropped.
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) id: String,
    input: Mutex<Option<Child>>,
}

impl Container {
    /// Makes one that does `script` when it is started.
    pub(crate) fn create(options: &[&str], script: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        image();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("dockctl-test-{}-{count}", std::process::id());
        let mut args = vec!["create", "--name", &name, "--network", "none", "--interactive"];
        args.extend(options);
        args.extend([IMAGE, "/bin/sh", "-c", script]);
        let id = String::from_utf8(docker(&args).stdout).unwrap().trim().to_owned();
        Self { name, id, input: Mutex::default() }
    }

    /// Makes and starts one.
    pub(crate) fn run(options: &[&str], script: &str) -> Self {
        let container = Self::create(options, script);
        docker(&["start", &container.name]);
        container
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&self) {
        docker(&["wait", &self.name]);
    }

    /// Gives it a line to read.
    pub(crate) fn say(&self, line: &str) {
        let mut input = self.input.lock().unwrap();
        let child = input.get_or_insert_with(|| {
            let mut attach = command(&["attach", "--sig-proxy=false", &self.name]);
            attach.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            attach.spawn().unwrap()
        });
        writeln!(child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = command(&["rm", "--force", &self.name]).output();
        if let Some(mut child) = self.input.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Makes the image unless it is there; tests run side by side, in processes of their own.
fn image() {
    let lock = File::create(std::env::temp_dir().join("dockctl-test-image.lock")).unwrap();
    lock.lock().unwrap();
    if command(&["image", "inspect", IMAGE]).output().unwrap().status.success() {
        return;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .expect("busybox-static is installed");
    let root = TempDir::new().unwrap();
    let bin = root.path().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::copy(busybox, bin.join("busybox")).unwrap();
    for name in ["sh", "echo", "sleep", "head", "tr", "seq", "printf", "true", "cat"] {
        std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
    }
    let mut tar = Command::new("tar")
        .args(["-C", root.path().to_str().unwrap(), "-c", "."])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut import = command(&["import", "-", IMAGE]);
    let done = import.stdin(tar.stdout.take().unwrap()).stdout(Stdio::null()).status().unwrap();
    assert!(tar.wait().unwrap().success() && done.success());
}

/// A socket before the engine's that can be cut.
pub(crate) struct Proxy {
    dir: TempDir,
    engine: String,
    accepting: Mutex<AbortHandle>,
}

impl Proxy {
    /// A proxy before the engine at this unix socket.
    pub(crate) fn start(host: &str) -> Self {
        let engine =
            host.strip_prefix("unix://").expect("the engine is at a unix socket").to_owned();
        let dir = TempDir::new().unwrap();
        let accepting = Mutex::new(accept(&dir, &engine));
        Self { dir, engine, accepting }
    }

    /// The address to use instead of the engine's.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("proxy.sock").display())
    }

    /// Cuts every connection and takes no new one.
    pub(crate) fn cut(&self) {
        self.accepting.lock().unwrap().abort();
        let _ = fs::remove_file(self.dir.path().join("proxy.sock"));
    }

    /// Takes connections again.
    pub(crate) fn resume(&self) {
        *self.accepting.lock().unwrap() = accept(&self.dir, &self.engine);
    }
}

fn accept(dir: &TempDir, engine: &str) -> AbortHandle {
    let listener = UnixListener::bind(dir.path().join("proxy.sock")).unwrap();
    let engine = engine.to_owned();
    let accepting = tokio::spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut near, _)) = listener.accept().await {
            let engine = engine.clone();
            open.spawn(async move {
                let mut far = UnixStream::connect(engine).await.unwrap();
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    accepting.abort_handle()
}
