//! However much passes, each of the three programs holds little of it.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use dockctl_tests::{
    Agent, Controller, IMAGE, LONG, World, await_until, counting_script, rounds, scenario,
};
use tokio::task::spawn_blocking;

/// What the issue allows each process, MiB.
const MOST: u64 = 64;

/// How much passes, bytes.
fn large() -> u64 {
    rounds(100, 1000) << 20
}

fn little(what: &str, peak: u64) -> Result<()> {
    println!("{what}: {peak} MiB");
    ensure!(peak <= MOST, "{what}: {peak} MiB");
    Ok(())
}

fn daemons(controller: &Controller<'_>, agents: &[&Agent<'_>]) -> Result<()> {
    little("the controller", controller.process.peak_memory()?)?;
    agents.iter().try_for_each(|agent| little("an agent", agent.process.peak_memory()?))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path in UTF-8")
}

/// A directory with one large file of zeros.
fn context(world: &World) -> Result<PathBuf> {
    let dir = world.dir("large")?;
    File::create(dir.join("large"))?.set_len(large())?;
    Ok(dir)
}

#[test]
fn copies_take_little_memory() {
    scenario(async |world| {
        let (controller, agent, docker, dockctl) = world.one_host("web-1").await?;
        let name = docker.run("c", "mkdir /in; exec sleep 100000").await?.name;
        let (from, to) = (context(world)?, world.dir("back")?);
        let inside = format!("web-1/{name}:/in/large");
        let from = from.join("large");
        let there = ["cp", text(&from)?, &inside];
        little("cp of a file there", dockctl.peak_memory(&there).await?)?;
        let (file, tree) = (to.join("file"), to.join("tree"));
        little("and back", dockctl.peak_memory(&["cp", &inside, text(&file)?]).await?)?;
        let directory = format!("web-1/{name}:/in");
        let back = ["cp", &directory, text(&tree)?];
        little("of a directory", dockctl.peak_memory(&back).await?)?;
        for file in [file, tree.join("large")] {
            ensure!(fs::metadata(&file)?.len() == large(), "{file:?} is not whole");
            fs::remove_file(file)?;
        }
        let archive = to.join("export.tar");
        let export = ["export", "-o", text(&archive)?, &format!("web-1/{name}")];
        little("export", dockctl.peak_memory(&export).await?)?;
        ensure!(fs::metadata(&archive)?.len() > large(), "the export is not whole");
        daemons(&controller, &[&agent])
    });
}

#[test]
fn images_take_little_memory() {
    scenario(async |world| {
        let (controller, agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);
        let (from, to) = (context(world)?, world.dir("archives")?);
        let (tar, saved) = (to.join("a.tar"), to.join("saved.tar"));
        let pack = ["-cf", text(&tar)?, "-C", text(&from)?, "large"];
        ensure!(Command::new("tar").args(pack).status()?.success(), "tar failed");
        let image = format!("{}:1", world.own("large"));
        let import = ["import", text(&tar)?, &image];
        little("import", dockctl.peak_memory(&import).await?)?;
        fs::remove_file(&tar)?;
        let save = ["save", "-o", text(&saved)?, &image];
        little("save", dockctl.peak_memory(&save).await?)?;
        ensure!(fs::metadata(&saved)?.len() > large(), "the archive is not whole");
        docker.cli(&["rmi", &image]).await?;
        let load = ["load", "-q", "-i", text(&saved)?];
        little("load", dockctl.peak_memory(&load).await?)?;
        docker.cli(&["image", "inspect", &image]).await?;
        fs::remove_file(&saved)?;

        fs::write(from.join("Dockerfile"), format!("FROM {IMAGE}\nLABEL a=b\n"))?;
        let built = format!("{}:1", world.own("built"));
        let build = ["build", "-t", &built, text(&from)?];
        little("build", dockctl.peak_memory(&build).await?)?;
        docker.cli(&["image", "inspect", &built]).await?;
        daemons(&controller, &[&agent])
    });
}

#[test]
fn a_forwarded_port_takes_little_memory() {
    scenario(async |world| {
        let (controller, agent, docker, dockctl) = world.one_host("web-1").await?;
        let name = docker.run_on("bridge", "db", "nc -ll -p 7 -e cat & exec sleep 100000").await?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let pair = format!("{port}:7");
        let running = dockctl.start(&["port-forward", &format!("web-1/{}", name.name), &pair])?;
        running.wait_for_lines(1).await?;
        await_until("an echo", LONG, async || {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            io::Write::write_all(&mut stream, b"?")?;
            stream.read_exact(&mut [0])?;
            Ok(Some(()))
        })
        .await?;
        let came = spawn_blocking(move || {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            let mut write = stream.try_clone()?;
            let writer = std::thread::spawn(move || {
                io::copy(&mut io::repeat(1).take(large()), &mut write)?;
                write.shutdown(Shutdown::Write)
            });
            let came = io::copy(&mut stream, &mut io::sink())?;
            let _ = writer.join();
            anyhow::Ok(came)
        })
        .await??;
        ensure!(came == large(), "{came} bytes came back");
        little("port-forward", running.peak_memory()?)?;
        daemons(&controller, &[&agent])
    });
}

#[test]
fn two_hundred_followed_logs_take_little_memory() {
    scenario(async |world| {
        // Agents beside one engine: each has all of its containers.
        let (hosts, containers) = rounds((4, 5), (10, 20));
        let controller = world.controller().await?;
        let (docker, dockctl) = (world.docker(), controller.dockctl().await?);
        for n in 0..containers {
            docker.run(&format!("c{n}"), counting_script()).await?;
        }
        let mut agents = Vec::new();
        for n in 0..hosts {
            agents.push(world.agent(&controller, &format!("web-{n}")).await?);
        }
        let selector = docker.selector();
        await_until("all in the fleet's list", LONG, async || {
            let ids = dockctl.ok(&["ps", "-q", "-l", &selector]).await?;
            Ok((ids.lines().count() == hosts * containers).then_some(()))
        })
        .await?;
        let follow = dockctl.start(&["logs", "-f", "-l", &selector])?;
        await_until("lines of all of them", LONG, async || {
            let text = String::from_utf8_lossy(&follow.stdout()?).into_owned();
            let who =
                text.lines().filter_map(|line| line.split_once(" | ").map(|(who, _)| who.trim()));
            Ok((who.collect::<std::collections::BTreeSet<_>>().len() >= hosts * containers)
                .then_some(()))
        })
        .await?;
        little("logs -f", follow.peak_memory()?)?;
        daemons(&controller, &agents.iter().collect::<Vec<_>>())
    });
}
