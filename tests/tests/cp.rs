//! Files into and out of containers: as docker does it, whole, bounded, and safe against hostile archives.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use dockctl_api::{
    error::{reason, reason_of},
    v1::{ReadArchiveRequest, StatPathRequest, WriteArchiveRequest},
};
use dockctl_tests::{Container, Docker, Held, LONG, World, await_until, rounds, scenario};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{UnixListener, UnixStream},
    task::{AbortHandle, spawn_blocking},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

const ODD: &str = "odd name %41 ?&=# 'ü'\"";

/// Makes a tree that has all that a copy may meet, below the current directory.
fn script() -> String {
    let long = "n".repeat(150);
    format!(
        "mkdir -p t/dir/sub t/dir/ro; echo hello > t/file; chmod 640 t/file; ln -s file t/link; \
         ln -s dir t/dlink; ln -s /abs/nowhere t/broken; echo x > t/dir/sub/x; ln t/dir/sub/x t/dir/hard; \
         cp t/file t/dir/suid; chmod 4755 t/dir/suid; echo odd > 't/odd name %41 ?&=# '\"'ü'\"'\"'; \
         echo long > t/dir/{long}; chmod 555 t/dir/ro; : > t/dir/empty"
    )
}

/// All that is below a directory: kind, mode, content or target, and the file's time.
fn tree(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let meta = fs::symlink_metadata(&path)?;
            let told = if meta.is_dir() {
                left.push(path.clone());
                format!("dir {:o}", meta.mode())
            } else if meta.is_symlink() {
                format!("link {}", fs::read_link(&path)?.display())
            } else {
                format!(
                    "file {:o} {} {:x} {}",
                    meta.mode(),
                    meta.nlink(),
                    hash(&path)?,
                    meta.mtime()
                )
            };
            found.insert(path.strip_prefix(root)?.display().to_string(), told);
        }
    }
    Ok(found)
}

fn hash(path: &Path) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    fs::read(path)?.hash(&mut hasher);
    Ok(hasher.finish())
}

fn shell(dir: &Path, script: &str) -> Result<()> {
    let status = Command::new("sh").arg("-c").arg(script).current_dir(dir).status()?;
    ensure!(status.success(), "{script}");
    Ok(())
}

async fn container(docker: &Docker, name: &str) -> Result<Container> {
    let made = docker.run(name, &format!("{}; touch /ready; exec sleep 100000", script())).await?;
    await_until("the container's files", LONG, async || {
        Ok(docker.cli(&["exec", &made.name, "ls", "/ready"]).await.ok())
    })
    .await?;
    Ok(made)
}

#[test]
fn what_is_neither_file_nor_directory_nor_link_is_refused_and_nothing_waits_for_it() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let odd = "mkdir -p /d; mkfifo /pipe /d/pipe; echo a >/d/a; ln -s pipe /link; mknod /null c 1 3; \
                   mknod /disk b 7 0; touch /ready; exec sleep 100000";
        let name = docker.run("odd", odd).await?.name;
        await_until("its files", LONG, async || {
            Ok(docker.cli(&["exec", &name, "ls", "/ready"]).await.ok())
        })
        .await?;
        let here = world.dir("here")?;
        shell(&here, "mkdir d; mkfifo pipe d/pipe; echo a >d/a; ln -s pipe link; echo f >file")?;
        let here = here.to_str().context("UTF-8")?;
        let there = |path: &str| format!("web-1/{name}:{path}");
        let local = |path: &str| format!("{here}/{path}");
        for (options, from, to, says) in [
            (&[][..], there("/pipe"), local("new"), "fifo"),
            (&[], there("/d"), local("new"), "fifo"),
            (&["-L"], there("/link"), local("new"), "fifo"),
            (&[], there("/null"), local("new"), "device"),
            (&[], there("/disk"), local("new"), "device"),
            (&[], there("/pipe"), there("/new"), "fifo"),
            (&[], local("pipe"), there("/new"), "fifo"),
            (&[], local("d"), there("/new"), "fifo"),
            (&["-L"], local("link"), there("/new"), "fifo"),
            (&[], "/dev/null".to_owned(), there("/new"), "device"),
            (&[], there("/d/a"), local("pipe"), "must be a directory or a regular file"),
            (&[], local("file"), there("/pipe"), "must be a directory or a regular file"),
        ] {
            let copy = [&["cp"], options, &[&*from, &*to]].concat();
            let said = dockctl.run(&copy).await?.failed(1)?;
            ensure!(said.contains(says), "{copy:?}: {said}");
            for made in [local("new"), local("new/pipe")] {
                let kind = fs::symlink_metadata(made).map(|m| m.is_file() || m.is_dir());
                ensure!(kind.unwrap_or(true), "{copy:?} made something odd");
            }
            shell(Path::new(here), "rm -rf new")?;
        }
        Ok(())
    });
}

#[test]
fn out_of_a_container_every_case_ends_as_with_docker_cp() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let name = container(&docker, "c").await?.name;
        let odd = format!("/t/{ODD}");
        for (n, (options, from, to)) in [
            (&[][..], "/t/file", "new"),
            (&[], "/t/file", "exists"),
            (&[], "/t/file", "there"),
            (&[], "/t/file", "there/"),
            (&[], "/t/file", "missing/"),
            (&[], "/t/file", "no/such/place"),
            (&[], "/t/file", "tofile"),
            (&[], "/t/file", "todir"),
            (&[], "/t/dir", "new"),
            (&[], "/t/dir", "there"),
            (&[], "/t/dir", "exists"),
            (&[], "/t/dir/.", "there"),
            (&[], "/t/dir/.", "new"),
            (&[], "/t/dir/", "new/"),
            (&[], "/t", "clash"),
            (&[], "/t/link", "new"),
            (&["-L"], "/t/link", "new"),
            (&["-L"], "/t/link", "there"),
            (&[], "/t/dlink", "new"),
            (&["-L"], "/t/dlink", "there"),
            (&[], "/t/dlink/", "there"),
            (&[], "/t/dlink/.", "new"),
            (&[], "/t/broken", "new"),
            (&["-L"], "/t/broken", "new"),
            (&[], "/t/nothing", "new"),
            (&[], &odd, "there"),
            (&[], "t/file", "."),
            (&[], "/etc", "new"),
        ]
        .into_iter()
        .enumerate()
        {
            let dirs = [world.dir(&format!("docker{n}"))?, world.dir(&format!("dockctl{n}"))?];
            let mut codes = Vec::new();
            for (dir, [program, reference]) in
                dirs.iter().zip([["docker", &name], ["dockctl", &format!("web-1/{name}")]])
            {
                shell(
                    dir,
                    "mkdir -p there clash/t/file; echo old > exists; touch -d @1000000 exists; ln -s exists tofile; ln -s there todir",
                )?;
                let source = format!("{reference}:{from}");
                let arguments = [&["cp"], options, &[&source, to]].concat();
                let mut command = match program {
                    "dockctl" => dockctl.command(&arguments)?,
                    _ => {
                        let mut command = Command::new("docker");
                        command.args(["-H", docker.host()]).args(&arguments);
                        command
                    }
                };
                let output = spawn_blocking({
                    let dir = dir.clone();
                    move || command.current_dir(dir).output()
                });
                let output = output.await??;
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                codes.push((output.status.success(), said));
            }
            let case = format!("{options:?} {from} {to}: {codes:?}");
            ensure!(codes[0].0 == codes[1].0, "{case}");
            ensure!(codes[0].0 || codes[1].1.contains("web-1/"), "the host is not named: {case}");
            let [docker, dockctl] = [tree(&dirs[0])?, tree(&dirs[1])?];
            // What a failed copy leaves behind is nobody's promise.
            ensure!(!codes[0].0 || docker == dockctl, "{case}\n{docker:#?}\n{dockctl:#?}");
        }
        Ok(())
    });
}

#[test]
fn into_a_container_every_case_ends_as_with_docker_cp() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let begin = "mkdir -p /d/there /d/clash/t/file; echo old > /d/exists; echo old > /d/exists2; \
                     ln -s there /d/todir; ln -s exists2 /d/tofile; touch /ready; exec sleep 100000";
        let [one, other] = [docker.run("one", begin).await?, docker.run("other", begin).await?];
        for container in [&one, &other] {
            await_until("the files", LONG, async || {
                Ok(docker.cli(&["exec", &container.name, "ls", "/ready"]).await.ok())
            })
            .await?;
        }
        let local = world.dir("local")?;
        shell(&local, &script())?;
        std::os::unix::fs::chown(local.join("t/file"), Some(1234), Some(4321))?;
        let odd = format!("t/{ODD}");
        for (options, from, to) in [
            (&[][..], "t/file", "/d/new"),
            (&[], "t/file", "/d/exists"),
            (&[], "t/file", "/d/there"),
            (&[], "t/file", "/d/missing/"),
            (&[], "t/file", "/d/no/such/place"),
            (&[], "t/link", "/d/link"),
            (&["-L"], "t/link", "/d/followed"),
            (&["-L"], "t/link", "/d/todir"),
            (&[], "t/file", "/d/tofile"),
            (&[], "t/dir", "/d/newdir"),
            (&[], "t/dir", "/d/there"),
            (&[], "t/dir/.", "/d/contents"),
            (&[], "t/dir", "/d/exists"),
            (&[], "t", "/d/clash"),
            (&["-L"], "t/dlink", "/d/dlink"),
            (&[], "t/dlink/", "/d/dlink2"),
            (&[], "t/broken", "/d/broken"),
            (&["-a"], "t/file", "/d/archived"),
            (&[], "t/nothing", "/d/nothing"),
            (&[], &odd, "/d"),
            (&[], "t/file", "/d/with space & more"),
            (&[], "t/file", "relative"),
        ] {
            let mut ends = Vec::new();
            for (program, reference) in
                [("docker", one.name.clone()), ("dockctl", format!("web-1/{}", other.name))]
            {
                let from = local.join(from).display().to_string();
                let to = format!("{reference}:{to}");
                let arguments = [&["cp"], options, &[&from, &to]].concat();
                let output = match program {
                    "dockctl" => dockctl.run(&arguments).await?,
                    _ => docker.raw(&arguments).await?,
                };
                ends.push((output.code == 0, output.stderr));
            }
            ensure!(ends[0].0 == ends[1].0, "{options:?} {from} {to}: {ends:?}");
        }
        let listed = async |name: &str| -> Result<String> {
            let archive = docker.raw(&["cp", &format!("{name}:/d"), "-"]).await?.stdout;
            let listed = spawn_blocking(move || {
                use std::io::Write as _;
                let mut tar = Command::new("tar");
                tar.args(["-tv", "--numeric-owner", "--full-time"]);
                let mut tar = tar.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
                tar.stdin.take().context("no stdin")?.write_all(&archive)?;
                anyhow::Ok(tar.wait_with_output()?.stdout)
            });
            let listed = String::from_utf8(listed.await??)?;
            // A directory's time is that of the copy, which was another.
            let lines = listed.lines().map(|line| match line.strip_prefix('d') {
                Some(dir) => dir
                    .split_whitespace()
                    .filter(|w| !w.contains([':']))
                    .collect::<Vec<_>>()
                    .join(" "),
                None => line.to_owned(),
            });
            Ok(lines
                .filter(|line| {
                    !line.contains("/exists2") && !line.contains("clash") && !line.contains("/to")
                })
                .collect::<Vec<_>>()
                .join("\n"))
        };
        let (docker_made, dockctl_made) = (listed(&one.name).await?, listed(&other.name).await?);
        ensure!(
            docker_made == dockctl_made,
            "docker made\n{docker_made}\ndockctl made\n{dockctl_made}"
        );
        ensure!(docker_made.contains("1234/4321"), "{docker_made}");
        Ok(())
    });
}

#[test]
fn stdin_stdout_and_host_to_host_carry_the_same_tree() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _web = world.agent(&controller, "web-1").await?;
        let _db = world.agent(&controller, "db-1").await?;
        let (docker, dockctl) = (world.docker(), controller.dockctl().await?);
        let from = container(&docker, "from").await?.name;
        let to = docker.run("to", "mkdir -p /in/there; exec sleep 100000").await?.name;

        let printed = dockctl.run(&["cp", &format!("web-1/{from}:/t"), "-"]).await?;
        ensure!(printed.code == 0, "{}", printed.stderr);
        let upload = ["cp", "-", &format!("db-1/{to}:/in/there")];
        dockctl.run_with_input(&upload, &printed.stdout).await?.done()?;
        dockctl.ok(&["cp", &format!("web-1/{from}:/t"), &format!("db-1/{to}:/in/new")]).await?;
        dockctl.ok(&["cp", &format!("web-1/{from}:/t/."), &format!("db-1/{to}:/in/new2")]).await?;
        dockctl.ok(&["cp", &format!("web-1/{from}:/t"), &format!("db-1/{to}:/in")]).await?;

        let mut trees = Vec::new();
        for (n, source) in [
            (&from, "/t"),
            (&to, "/in/there/t"),
            (&to, "/in/new"),
            (&to, "/in/new2"),
            (&to, "/in/t"),
        ]
        .into_iter()
        .enumerate()
        {
            let local = world.dir(&format!("tree{n}"))?.join("x");
            docker
                .cli(&["cp", &format!("{}:{}", source.0, source.1), &local.display().to_string()])
                .await?;
            trees.push(tree(&local)?);
        }
        for other in &trees[1..] {
            ensure!(other == &trees[0], "{other:#?}\n{:#?}", trees[0]);
        }
        for arguments in [["cp", "a", "b"], ["cp", "", "web-1/c:/x"]] {
            dockctl.run(&arguments).await?.failed(2)?;
        }
        let gone = dockctl.run(&["cp", "web-1/ghost:/x", "-"]).await?.failed(4)?;
        ensure!(gone.contains("web-1/ghost"), "{gone}");
        let gone = dockctl.run(&["cp", &format!("web-1/{from}:/nothing"), "-"]).await?.failed(4)?;
        ensure!(
            gone.contains("web-1/") && gone.contains("Could not find the file /nothing"),
            "{gone}"
        );
        // The engine answers such an upload and leaves the connection open.
        let place = world.dir("f")?.join("f");
        std::fs::write(&place, "small")?;
        let upload = ["cp", &place.display().to_string(), &format!("web-1/{from}:/nothing/f")];
        let said = dockctl.run(&upload).await?.failed(4)?;
        ensure!(said.contains("Could not find the file /nothing"), "{said}");
        let upload = ["cp", &place.display().to_string(), &format!("web-1/{from}:/t/file/x")];
        let said = dockctl.run(&upload).await?.failed(1)?;
        ensure!(said.contains("not a directory"), "{said}");
        let upload = ["cp", "-", &format!("web-1/{from}:/t/file")];
        let said = dockctl.run_with_input(&upload, &printed.stdout).await?.failed(1)?;
        ensure!(said.contains("must be a directory"), "{said}");
        Ok(())
    });
}

#[test]
fn a_large_file_comes_back_the_same_and_memory_stays_bounded() {
    scenario(async |world| {
        let (controller, agent, docker, dockctl) = world.one_host("web-1").await?;
        let name = docker.run("c", "mkdir /in; exec sleep 100000").await?.name;
        let dir = world.dir("large")?;
        shell(&dir, "head -c 200000000 /dev/urandom > large")?;
        let large = dir.join("large");
        let remote = format!("web-1/{name}:/in/large");
        dockctl.ok(&["cp", &large.display().to_string(), &remote]).await?;
        let inside = docker.cli(&["exec", &name, "sha256sum", "/in/large"]).await?;
        dockctl.ok(&["cp", &remote, &dir.join("back").display().to_string()]).await?;
        ensure!(hash(&large)? == hash(&dir.join("back"))?, "it came back as another");
        let outside = Command::new("sha256sum").arg(&large).output()?.stdout;
        ensure!(inside.as_bytes()[..64] == outside[..64], "{inside}");
        for (process, who) in [(&agent.process, "agent"), (&controller.process, "controller")] {
            let peak = process.peak_memory()?;
            ensure!(peak <= 64, "the {who} held {peak} MiB");
        }
        Ok(())
    });
}

/// A tar header of that kind, and its data.
fn entry(kind: u8, name: &str, target: &str, data: &[u8]) -> Vec<u8> {
    let mut block = vec![0_u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
    block[156] = kind;
    block[157..157 + target.len()].copy_from_slice(target.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.extend_from_slice(data);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

/// Archives that would reach out of the directory `t` beside which a canary lies.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let evil = |name: &str| entry(b'0', name, "", b"evil\n");
    let long = |name: &str| entry(b'L', "././@LongLink", "", format!("{name}\0").as_bytes());
    let pax = |name: &str| {
        let length = name.len() + 9; // Two digits, a space, the key and the line's end.
        entry(b'x', "pax", "", format!("{length} path={name}\n").as_bytes())
    };
    let tar = |entries: &[Vec<u8>]| [entries.concat(), vec![0; 1024]].concat();
    let mut gzip = tar(&[evil("../canary")]);
    gzip[..3].copy_from_slice(b"\x1f\x8b\x08");
    vec![
        ("absolute", tar(&[evil("/canary")])),
        ("dot dot", tar(&[evil("../canary")])),
        ("dot dot inside", tar(&[entry(b'5', "a/", "", b""), evil("a/../../canary")])),
        ("symlink", tar(&[entry(b'2', "a", "..", b""), evil("a/canary")])),
        ("absolute symlink", tar(&[entry(b'2', "a", "/", b""), evil("a/canary")])),
        (
            "symlink of symlink",
            tar(&[entry(b'2', "a", "b", b""), entry(b'2', "b", "..", b""), evil("a/canary")]),
        ),
        ("hard link", tar(&[entry(b'1', "a", "../canary", b""), evil("a")])),
        ("absolute hard link", tar(&[entry(b'1', "a", "/canary", b""), evil("a")])),
        (
            "hard link of symlink",
            tar(&[entry(b'2', "s", "..", b""), entry(b'1', "a", "s", b""), evil("a/canary")]),
        ),
        ("long name", tar(&[long("../canary"), evil("x")])),
        ("pax name", tar(&[pax("../canary"), evil("x")])),
        ("device", tar(&[entry(b'3', "null", "", b"")])),
        ("fifo", tar(&[entry(b'6', "pipe", "", b"")])),
        ("compressed", gzip),
        ("no archive", vec![b'x'; 4096]),
        ("cut off", evil("x")),
    ]
}

#[test]
fn a_hostile_archive_changes_nothing_outside_its_target() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let fake = FakeEngine::start(world)?;
        let _agent = world.agent_at(&controller, "web-1", &fake.url).await?;
        let (docker, dockctl) = (world.docker(), controller.dockctl().await?);
        let name = docker.run("c", "mkdir /t; echo safe > /canary; exec sleep 100000").await?.name;
        let dir = world.dir("target")?;
        fs::create_dir(dir.join("t"))?;
        fs::write(dir.join("canary"), "safe\n")?;
        for (what, archive) in corpus() {
            // Into the container.
            let upload = ["cp", "-", &format!("web-1/{name}:/t")];
            let said = dockctl.run_with_input(&upload, &archive).await?.failed(1)?;
            ensure!(said.contains("web-1/") && said.contains("refused"), "{what}: {said}");
            let canary = docker.cli(&["exec", &name, "cat", "/canary"]).await?;
            ensure!(canary == "safe", "{what} changed the container: {canary}");
            // Out of an engine that lies.
            fs::write(&fake.archive, &archive)?;
            let to = dir.join("t").display().to_string();
            let said =
                dockctl.run(&["cp", &format!("web-1/{name}:/evil"), &to]).await?.failed(1)?;
            ensure!(said.contains("web-1/"), "{what}: {said}");
            ensure!(said.contains("of its entries were written to"), "{what}: {said}");
            ensure!(
                fs::read_to_string(dir.join("canary"))? == "safe\n",
                "{what} changed the canary"
            );
            ensure!(fs::metadata(dir.join("canary"))?.nlink() == 1, "{what} linked the canary");
        }
        ensure!(!Path::new("/canary").exists(), "an absolute name was written");
        let changed = docker.cli(&["diff", &name]).await?;
        // The engine's own --init is the rest.
        let elsewhere = |line: &&str| {
            !["/t", "/canary", "/sbin"].iter().any(|begin| line[2..].starts_with(begin))
        };
        let outside: Vec<&str> = changed.lines().filter(elsewhere).collect();
        ensure!(outside.is_empty(), "changed: {outside:?}");
        Ok(())
    });
}

/// The real engine, but for one path of every container, whose archive is the file `archive`.
struct FakeEngine {
    url: String,
    archive: std::path::PathBuf,
    task: AbortHandle,
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeEngine {
    fn start(world: &World) -> Result<Self> {
        let dir = world.dir("fake")?;
        let (socket, archive) = (dir.join("docker.sock"), dir.join("archive.tar"));
        let real = world.docker().host().strip_prefix("unix://").context("unix://")?.to_owned();
        let listener = UnixListener::bind(&socket)?;
        let file = archive.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, real.clone(), file.clone()));
            }
        });
        let url = format!("unix://{}", socket.display());
        Ok(Self { url, archive, task: task.abort_handle() })
    }
}

async fn serve(mut near: UnixStream, real: String, archive: std::path::PathBuf) -> Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") && near.read_buf(&mut head).await? > 0 {}
    if head.starts_with(b"GET") && String::from_utf8_lossy(&head).contains("archive?path=%2Fevil") {
        // {"name":"evil","size":0,"mode":2147484141}
        let stat = "eyJuYW1lIjoiZXZpbCIsInNpemUiOjAsIm1vZGUiOjIxNDc0ODQxNDF9";
        let answer = format!("HTTP/1.0 200 OK\r\nX-Docker-Container-Path-Stat: {stat}\r\n\r\n");
        near.write_all(answer.as_bytes()).await?;
        near.write_all(&fs::read(archive)?).await?;
        return Ok(near.shutdown().await?);
    }
    let mut far = UnixStream::connect(real).await?;
    far.write_all(&head).await?;
    copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}

#[test]
fn copies_that_are_hung_up_leave_nothing_behind() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let large =
            "mkdir /in; head -c 50000000 /dev/zero > /large; touch /ready; exec sleep 100000";
        let name = docker.run("c", large).await?.name;
        await_until("the large file", LONG, async || {
            Ok(docker.cli(&["exec", &name, "ls", "/ready"]).await.ok())
        })
        .await?;
        let (web, container) = ("web-1".to_owned(), name.clone());
        let mut api = controller.admin().await?.copies();
        let read = ReadArchiveRequest {
            agent: web.clone(),
            container: container.clone(),
            path: "/large".into(),
        };
        let first = WriteArchiveRequest {
            agent: web.clone(),
            container: container.clone(),
            path: "/in".into(),
            data: entry(b'0', "part", "", &[1; 1000]).into(),
            ..Default::default()
        };
        let stat = StatPathRequest { agent: web, container, path: "/in".into() };
        let abort = async |api: &mut dockctl_api::v1::copy_service_client::CopyServiceClient<_>| -> Result<()> {
            let mut stream = api.read_archive(read.clone()).await?.into_inner();
            stream.message().await?;
            stream.message().await?;
            drop(stream);
            let (queue, requests) = tokio::sync::mpsc::channel(1);
            queue.send(first.clone()).await?;
            let writing = api.write_archive(ReceiverStream::new(requests));
            tokio::select! {
                ended = writing => anyhow::bail!("it ended: {ended:?}"),
                sent = queue.send(WriteArchiveRequest { data: Bytes::from_static(&[0; 100]), ..Default::default() }) => sent?,
            }
            Ok(())
        };
        abort(&mut api).await?;
        api.stat_path(stat.clone()).await?;
        let before = Held::by(&controller, &agent).await?;
        for _ in 0..rounds(50, 1000) {
            abort(&mut api).await?;
        }
        before.again(&controller, &agent).await?;
        let error = api.stat_path(StatPathRequest { path: String::new(), ..stat }).await;
        let error = error.expect_err("an empty path");
        ensure!(error.code() == Code::InvalidArgument, "{error}");
        ensure!(reason_of(&error).as_deref() == Some(reason::BAD_FIELD), "{error}");
        Ok(())
    });
}
