//! Images of a host: names, archives, registries, and the way from one host to another.

use std::{fs, io::Write as _};

use anyhow::{Context, Result, ensure};
use dockctl_tests::{
    Docker, IMAGE, LONG, Process, REGISTRY_LOGIN, Screen, TcpProxy, World, await_until, scenario,
};
use serde_json::Value;

/// A tar archive with one file in it.
async fn archive(world: &World, size: usize) -> Result<Vec<u8>> {
    let dir = world.dir("files")?;
    let mut file = fs::File::create(dir.join("data"))?;
    // No two blocks are the same, and nothing can be compressed away.
    let mut state = 88172645463325252_u64;
    let mut block = Vec::with_capacity(1 << 16);
    let mut left = size;
    while left > 0 {
        block.clear();
        while block.len() < (1 << 16).min(left) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend_from_slice(&state.to_le_bytes());
        }
        block.truncate(left);
        file.write_all(&block)?;
        left -= block.len();
    }
    let tar = dir.join("files.tar");
    let status = std::process::Command::new("tar")
        .arg("-cf")
        .arg(&tar)
        .args(["--mtime=@0", "-C"])
        .arg(&dir)
        .arg("data")
        .status()?;
    ensure!(status.success(), "tar failed");
    Ok(fs::read(tar)?)
}

async fn id(docker: &Docker, image: &str) -> Result<String> {
    docker.cli(&["image", "inspect", "-f", "{{.Id}}", image]).await
}

/// Imports a small image of the scenario's own with docker itself, and gives its name.
async fn made(world: &World, docker: &Docker, name: &str) -> Result<String> {
    let image = format!("{}:1", world.own(name));
    let path = world.dir("made")?.join("a.tar");
    fs::write(&path, archive(world, 5_000).await?)?;
    docker.cli(&["import", path.to_str().context("UTF-8")?, &image]).await?;
    Ok(image)
}

#[test]
fn an_image_is_imported_tagged_shown_and_removed_in_dockers_words() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);

        let image = format!("{}:1", world.own("made"));
        let arguments =
            ["import", "-m", "by hand", "-c", "CMD [\"x\"]", "-", &image, "--on", "web-1"];
        let archive = archive(world, 5_000).await?;
        let said = dockctl.run_with_input(&arguments, archive).await?.done()?;
        let made = id(&docker, &image).await?;
        ensure!(said.trim() == made, "{said:?} is not {made}");
        let template = "{{.Comment}} {{.Config.Cmd}}";
        let about = docker.cli(&["image", "inspect", "-f", template, &image]).await?;
        ensure!(about == "by hand [x]", "{about}");

        // The only agent need not be named; the JSON is the engine's own.
        let shown = dockctl.json(&["images", "inspect", &image]).await?;
        let direct: Value =
            serde_json::from_str(&docker.cli(&["image", "inspect", &image]).await?)?;
        ensure!(shown[0]["Id"] == direct[0]["Id"], "{shown}");
        ensure!(shown[0]["RootFS"] == direct[0]["RootFS"], "{shown}");

        let history = dockctl.ok(&["history", &image]).await?;
        ensure!(history.starts_with("IMAGE          CREATED "), "{history}");
        ensure!(history.contains("by hand"), "{history}");

        let other = format!("{}/b:2", world.own("made"));
        dockctl.ok(&["tag", &image, &other]).await?;
        ensure!(id(&docker, &other).await? == made);
        for list in [&["images"][..], &["images", "ls", "--on", "web-1"], &["image", "ls"]] {
            await_until("the image in the list", LONG, async || {
                let listed = dockctl.ok(list).await?;
                Ok(listed.contains(other.split(':').next().unwrap_or_default()).then_some(()))
            })
            .await?;
        }

        let said = dockctl.ok(&["rmi", &other]).await?;
        ensure!(said == format!("Untagged: {other}\n"), "{said}");
        let said = dockctl.ok(&["images", "rm", &image]).await?;
        ensure!(said.contains(&format!("Untagged: {image}\n")), "{said}");
        ensure!(said.contains(&format!("Deleted: {made}\n")), "{said}");
        let said = dockctl.run(&["rmi", &image]).await?.failed(4)?;
        ensure!(said.contains("web-1: No such image"), "{said}");
        // What could lead a URL elsewhere is refused before the engine sees it.
        let said = dockctl.run(&["rmi", "../containers/x"]).await?.failed(2)?;
        ensure!(said.contains("invalid reference format"), "{said}");
        Ok(())
    });
}

#[test]
fn a_prune_asks_first_and_removes_only_what_fits() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);
        let label = format!("prune={}", world.prefix());
        let change = format!("LABEL {label}");
        let archive = archive(world, 5_000).await?;
        let import = ["import", "-c", &change, "-"];
        let id = dockctl.run_with_input(&import, archive).await?.done()?;
        let filter = format!("label={label}");

        let said = dockctl.run(&["images", "prune", "--filter", &filter]).await?.failed(2)?;
        ensure!(said.contains("nobody is there to be asked"), "{said}");
        docker.cli(&["image", "inspect", id.trim()]).await?;

        let said = dockctl.ok(&["images", "prune", "-f", "--filter", &filter]).await?;
        ensure!(said.starts_with("Deleted Images:\n"), "{said}");
        ensure!(said.contains(id.trim()), "{said}");
        ensure!(said.contains("Total reclaimed space: "), "{said}");
        let gone = docker.raw(&["image", "inspect", id.trim()]).await?;
        ensure!(gone.code != 0, "it is still there");
        Ok(())
    });
}

#[test]
fn a_saved_image_is_loaded_again_as_itself() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);
        let image = made(world, &docker, "saved").await?;
        let before = id(&docker, &image).await?;

        let file = world.dir("saved")?.join("image.tar");
        let path = file.to_str().context("UTF-8")?;
        dockctl.ok(&["save", "-o", path, &image]).await?;
        docker.cli(&["rmi", &image]).await?;
        let said = dockctl.ok(&["load", "-q", "-i", path]).await?;
        ensure!(said == format!("Loaded image: {image}\n"), "{said}");
        ensure!(id(&docker, &image).await? == before, "it came back as another");

        // By pipes, and docker itself takes what dockctl saves.
        let saved = dockctl.run(&["images", "save", &image]).await?;
        ensure!(saved.code == 0 && saved.stdout.len() > 5_000, "{}", saved.stderr);
        docker.cli(&["rmi", &image]).await?;
        dockctl.run_with_input(&["load"], &saved.stdout).await?.done()?;
        ensure!(id(&docker, &image).await? == before, "it came back as another");

        let said = dockctl.run(&["save", "-o", path, "no-such-image:1"]).await?.failed(4)?;
        ensure!(said.contains("web-1: "), "{said}");
        ensure!(fs::metadata(&file)?.len() > 5_000, "a failed save has spoilt the file");
        // The engine's own words arrive although it reads no further.
        let garbage = world.dir("garbage")?.join("garbage.tar");
        fs::write(&garbage, &archive(world, 16 << 20).await?[700..])?;
        let path = garbage.to_str().context("UTF-8")?;
        let said = dockctl.run(&["load", "-i", path]).await?.failed(1)?;
        ensure!(said.contains("web-1: ") && said.contains("invalid tar header"), "{said}");
        let said = dockctl.run(&["import", path]).await?.failed(1)?;
        ensure!(said.contains("web-1: ") && said.contains("invalid tar header"), "{said}");
        let said = dockctl.run(&["load", "-i", "/no/such/file"]).await?.failed(1)?;
        ensure!(said.contains("/no/such/file"), "{said}");
        Ok(())
    });
}

#[test]
fn a_hang_up_is_no_end_of_an_archive_and_leaves_no_socket() {
    scenario(async |world| {
        let (_controller, agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);
        dockctl.ok(&["ping", "web-1"]).await?;
        let idle = agent.process.sockets()?;

        // All that an archive has, but nobody has said that it ends here.
        let image = format!("{}:1", world.own("half"));
        let archive = archive(world, 3 << 20).await?;
        for _ in 0..3 {
            let mut command = dockctl.command(&["import", "-", &image])?;
            let (read, mut write) = std::io::pipe()?;
            command.stdin(read);
            let mut import = Process::spawn_with_input("import", command, world.logs())?;
            write.write_all(&archive)?;
            await_until("the import to reach the engine", LONG, async || {
                Ok((agent.process.sockets()? > idle).then_some(()))
            })
            .await?;
            import.kill9()?;
            await_until("the agent to let go of the engine", LONG, async || {
                Ok((agent.process.sockets()? <= idle).then_some(()))
            })
            .await?;
        }
        let there = docker.raw(&["image", "inspect", &image]).await?;
        ensure!(there.code != 0, "half an import became an image");
        Ok(())
    });
}

#[test]
fn a_transfer_moves_an_image_without_a_registry_and_in_little_memory() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let web = world.agent(&controller, "web-1").await?;
        let private = world.private_dockerd().await?;
        let db = world.agent_at(&controller, "db-1", private.docker().host()).await?;
        let dockctl = controller.dockctl().await?;
        let docker = world.docker();
        let _tidy = world.tidy(&docker);

        let image = format!("{}:1", world.own("moved"));
        let path = world.dir("moved")?.join("a.tar");
        fs::write(&path, archive(world, 96 << 20).await?)?;
        docker.cli(&["import", path.to_str().context("UTF-8")?, &image]).await?;
        let here = id(&docker, &image).await?;

        let transfer = ["images", "transfer", "web-1", "db-1", &image];
        let said = dockctl.ok(&transfer).await?;
        ensure!(said.contains(&format!("db-1: {image} has arrived as {}", &here[7..19])), "{said}");
        ensure!(id(private.docker(), &image).await? == here, "it arrived as another");
        let removed = private.docker().cli(&["rmi", &image]).await?;
        ensure!(removed.contains("Deleted"), "{removed}");
        let peak = dockctl.peak_memory(&transfer).await?;
        ensure!(peak <= 64, "dockctl took {peak} MiB");
        let said = dockctl.json(&transfer).await?;
        ensure!(said[0]["moved"] == false && said[0]["id"] == here, "{said}");

        // By another name nothing moves either, and the name is there then.
        let other = format!("{}:2", world.own("moved"));
        docker.cli(&["tag", &image, &other]).await?;
        let said = dockctl.ok(&["images", "transfer", "web-1", "db-1", &other]).await?;
        ensure!(said.contains("is there already"), "{said}");
        ensure!(id(private.docker(), &other).await? == here);

        for process in [&web.process, &db.process, &controller.process] {
            let peak = process.peak_memory()?;
            ensure!(peak <= 64, "{process:?} took {peak} MiB");
        }

        // To several hosts; the one that it comes from needs none.
        let _web_2 = world.agent(&controller, "web-2").await?;
        private.docker().cli(&["rmi", &image, &other]).await?;
        let said = dockctl.ok(&["images", "transfer", "web-1", "db-1,web-*", &image]).await?;
        let lines: Vec<&str> = said.lines().collect();
        ensure!(lines.len() == 2 && lines[0].starts_with("db-1: "), "{said}");
        ensure!(lines[0].contains("has arrived") && lines[1].contains("web-2: "), "{said}");
        ensure!(lines[1].contains("is there already"), "{said}");
        ensure!(id(private.docker(), &image).await? == here);
        dockctl.run(&["images", "transfer", "web-1", "web-1", &image]).await?.failed(2)?;
        dockctl.run(&["images", "transfer", "web-1", "no-*", &image]).await?.failed(4)?;
        let said = dockctl.run(&["images", "transfer", "web-1", "db-1", "no-such:1"]).await?;
        let said = said.failed(4)?;
        ensure!(said.contains("web-1: No such image: no-such:1"), "{said}");
        // Two are connected now.
        let said = dockctl.run(&["rmi", &image]).await?.failed(2)?;
        ensure!(said.contains("--on") && said.contains("db-1"), "{said}");
        Ok(())
    });
}

#[test]
fn push_and_pull_go_through_a_registry() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);
        let registry = world.registry(false).await?;
        let small = made(world, &docker, "pushed").await?;
        let before = id(&docker, &small).await?;
        let repository = format!("{}/{}", registry.address, world.own("pushed"));
        docker.cli(&["tag", &small, &repository]).await?;

        let said = dockctl.ok(&["push", &repository]).await?;
        ensure!(said.starts_with("Using default tag: latest\n"), "{said}");
        ensure!(said.contains(": Pushed\n") && said.contains("digest: sha256:"), "{said}");
        ensure!(!said.contains('\x1b'), "{said:?}");

        docker.cli(&["rmi", &small, &repository]).await?;
        let said = dockctl.ok(&["images", "pull", &repository, "--on", "web-1"]).await?;
        ensure!(said.contains(": Pull complete\n") && said.contains("Digest: sha256:"), "{said}");
        ensure!(said.ends_with(&format!("{repository}:latest\n")), "{said}");
        ensure!(id(&docker, &repository).await? == before, "it came back as another");
        let said = dockctl.ok(&["pull", "-q", &repository]).await?;
        ensure!(said == format!("{repository}:latest\n"), "{said}");
        let lines = dockctl.ok(&["pull", &repository, "-o", "json"]).await?;
        for line in lines.lines() {
            let message: Value = serde_json::from_str(line)?;
            ensure!(message["status"].is_string(), "{line}");
        }

        let said = dockctl.run(&["pull", "-q", &format!("{repository}:none")]).await?;
        ensure!(said.code != 0 && said.stderr.contains("web-1: "), "{}", said.stderr);
        ensure!(said.stderr.contains("manifest unknown"), "{}", said.stderr);
        Ok(())
    });
}

#[test]
fn a_pull_on_many_hosts_is_summed_up() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _web_1 = world.agent(&controller, "web-1").await?;
        let _web_2 = world.agent(&controller, "web-2").await?;
        let _db_1 = world.agent(&controller, "db-1").await?;
        let dockctl = controller.dockctl().await?;
        let docker = world.docker();
        let _tidy = world.tidy(&docker);
        let registry = world.registry(false).await?;
        let image = format!("{}/{}:1", registry.address, world.own("many"));
        docker.cli(&["tag", "dockctl/busybox:test", &image]).await?;
        dockctl.ok(&["push", "-q", "--on", "db-1", &image]).await?;

        let said = dockctl.run(&["pull", "--on", "web-*", &image]).await?;
        ensure!(said.code == 0, "{}", said.stderr);
        let stdout = String::from_utf8(said.stdout)?;
        let mut hosts: Vec<&str> = stdout.lines().collect();
        hosts.sort_unstable();
        ensure!(hosts == ["web-1", "web-2"], "{hosts:?}");
        ensure!(said.stderr.contains("pulled 2 of 2"), "{}", said.stderr);

        let missing = format!("{}/{}:none", registry.address, world.own("many"));
        let said = dockctl.run(&["pull", "--on", "web-*,db-1", &missing]).await?;
        ensure!(said.code != 0 && said.stdout.is_empty(), "{}", said.code);
        ensure!(said.stderr.contains("pulled 0, failed 3 of 3"), "{}", said.stderr);
        for host in ["web-1: ", "web-2: ", "db-1: "] {
            ensure!(said.stderr.contains(host), "{host} {}", said.stderr);
        }
        dockctl.run(&["pull", "--on", "zz-*", &image]).await?.failed(4)?;
        Ok(())
    });
}

#[test]
fn a_pull_on_many_hosts_shows_how_far_each_is() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _web_1 = world.agent(&controller, "web-1").await?;
        let _web_2 = world.agent(&controller, "web-2").await?;
        let dockctl = controller.dockctl().await?;
        let docker = world.docker();
        let _tidy = world.tidy(&docker);
        let registry = world.registry(false).await?;
        let line = TcpProxy::start(registry.address).await?;
        let image = format!("{}/{}:1", line.address(), world.own("far"));
        let tar = world.dir("layer")?.join("a.tar");
        fs::write(&tar, archive(world, 20_000_000).await?)?;
        docker.cli(&["import", tar.to_str().context("UTF-8")?, &image]).await?;
        docker.cli(&["push", "-q", &image]).await?;
        docker.cli(&["rmi", &image]).await?;

        line.stall_after(8_000_000);
        let command = dockctl.command(&["pull", "--on", "web-*", &image])?;
        let screen = Screen::start(world, &command).await?;
        for host in ["web-1: 0 of 1 layers [", "web-2: 0 of 1 layers ["] {
            screen.shows(host, |text| text.contains(host) && text.contains("/20.01MB")).await?;
        }
        line.resume();
        let text = screen.shows("the end", |text| text.contains("ended with 0")).await?;
        ensure!(text.contains("pulled 2 of 2") && !text.contains("of 1 layers"), "{text}");
        for host in ["web-1", "web-2"] {
            ensure!(text.lines().filter(|line| *line == host).count() == 1, "{text}");
            let status = format!("{host}: ");
            ensure!(text.lines().filter(|line| line.starts_with(&status)).count() == 1, "{text}");
        }
        Ok(())
    });
}

#[test]
fn what_a_run_misses_is_pulled_and_stdout_stays_the_containers() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);
        let registry = world.registry(false).await?;
        let image = format!("{}/{}:1", registry.address, world.own("wanted"));
        docker.cli(&["tag", "dockctl/busybox:test", &image]).await?;
        dockctl.ok(&["push", "-q", &image]).await?;
        docker.cli(&["rmi", &image]).await?;

        let said = dockctl.run(&["run", "--rm", "--pull", "never", &image, "true"]).await?;
        ensure!(said.code == 125, "{} {}", said.code, said.stderr);
        let name = world.own("pulls");
        let said = dockctl.run(&["run", "--rm", "--name", &name, &image, "echo", "hi"]).await?;
        ensure!(said.code == 0 && said.stdout == b"hi\n", "{}", said.stderr);
        ensure!(said.stderr.contains(&format!("Unable to find image '{image}' locally")));
        ensure!(said.stderr.contains("Status: Downloaded newer image"), "{}", said.stderr);
        let said = dockctl.run(&["run", "--rm", "--name", &name, &image, "echo", "hi"]).await?;
        ensure!(said.code == 0 && said.stderr.is_empty(), "{}", said.stderr);
        let always = ["run", "--rm", "--pull", "always", "--name", &name, &image, "echo", "hi"];
        let said = dockctl.run(&always).await?;
        ensure!(said.stdout == b"hi\n" && said.stderr.contains("Image is up to date"));
        Ok(())
    });
}

#[test]
fn a_login_is_the_users_own_and_shows_up_nowhere() {
    scenario(async |world| {
        let (controller, agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);
        let registry = world.registry(true).await?;
        let small = made(world, &docker, "locked").await?;
        let image = format!("{}/{}:1", registry.address, world.own("locked"));
        docker.cli(&["tag", &small, &image]).await?;

        let said = dockctl.run(&["push", "-q", &image]).await?.failed(1)?;
        ensure!(said.contains("no basic auth credentials"), "{said}");

        // A credential helper by docker's own protocol, found by its name.
        let (name, password) = REGISTRY_LOGIN;
        let bin = world.dir("bin")?;
        let helper = bin.join("docker-credential-test");
        let script = format!(
            "#!/bin/sh\nread -r server\n[ \"$server\" = {} ] || exit 1\n\
             echo '{{\"Username\":\"{name}\",\"Secret\":\"{password}\"}}'\n",
            registry.address
        );
        fs::write(&helper, script)?;
        std::process::Command::new("chmod").arg("755").arg(&helper).status()?;
        let docker_config = world.dir("docker-config")?;
        fs::write(
            docker_config.join("config.json"),
            format!(r#"{{"credHelpers":{{"{}":"test"}}}}"#, registry.address),
        )?;
        let mut command = dockctl.command(&["push", "-q", &image])?;
        let path = format!("{}:{}", bin.display(), std::env::var("PATH")?);
        command.env("DOCKER_CONFIG", &docker_config).env("PATH", path);
        let mut push = Process::spawn("push", command, world.logs())?;
        ensure!(push.exit_code().await? == 0, "{}", push.tail());

        // The same from docker's file, for a pull.
        docker.cli(&["rmi", &image]).await?;
        let auth = "YW5uYTpzM2NyZXQtb2YtYW5uYQ==";
        fs::write(
            docker_config.join("config.json"),
            format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, registry.address),
        )?;
        let mut command = dockctl.command(&["pull", &image])?;
        command.env("DOCKER_CONFIG", &docker_config);
        let mut pull = Process::spawn("pull", command, world.logs())?;
        ensure!(pull.exit_code().await? == 0, "{}", pull.tail());
        id(&docker, &image).await?;

        for process in [&agent.process, &controller.process, &push, &pull] {
            let told = process.log()? + &String::from_utf8_lossy(&process.stdout()?);
            ensure!(!told.contains(password) && !told.contains(auth), "{told}");
        }
        Ok(())
    });
}

#[test]
fn a_pull_that_nobody_waits_for_ends_at_the_engine() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let agent = world.agent(&controller, "web-1").await?;
        let dockctl = controller.dockctl().await?;
        dockctl.ok(&["ping", "web-1"]).await?;
        let idle = agent.process.sockets()?;
        // A registry that never answers.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let image = format!("{}/x:1", silent.local_addr()?);
        let mut pull = dockctl.start(&["pull", &image])?;
        let (mut first, _) = silent.accept().await?;
        pull.kill9()?;
        await_until("the agent to let go of the engine", LONG, async || {
            Ok((agent.process.sockets()? <= idle).then_some(()))
        })
        .await?;
        // The engine hangs up on the registry too.
        let mut rest = Vec::new();
        let end = tokio::io::AsyncReadExt::read_to_end(&mut first, &mut rest);
        tokio::time::timeout(LONG, end).await.context("the engine still waits")??;
        Ok(())
    });
}

#[test]
fn the_image_of_the_tests_is_shown_with_its_layers_as_docker_counts_them() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let layers = dockctl.json(&["history", IMAGE]).await?;
        let ids = docker.cli(&["history", "--no-trunc", "-q", IMAGE]).await?;
        let shown: Vec<&str> =
            layers.as_array().into_iter().flatten().filter_map(|l| l["id"].as_str()).collect();
        ensure!(shown.join("\n") == ids, "{layers} / {ids}");
        Ok(())
    });
}
